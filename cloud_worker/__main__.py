"""``python -m cloud_worker --settings worker.yaml [--check-config]``."""

import argparse
import sys
from pathlib import Path

from cloud_worker.daemon import check, serve


def main() -> int:
    """Read the command line and run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m cloud_worker", description="A Hemolink worker.")
    parser.add_argument("--settings", type=Path, required=True, help="YAML settings file")
    parser.add_argument("--check-config", action="store_true", help="check settings and model, and end")
    arguments = parser.parse_args()
    return check(arguments.settings) if arguments.check_config else serve(arguments.settings)


if __name__ == "__main__":
    sys.exit(main())
