"""``python -m edge_agent --settings edge.yaml [--check-config]``."""

import argparse
import sys
from pathlib import Path

from edge_agent.daemon import check, serve


def main() -> int:
    """Read the command line and run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m edge_agent", description="A microscope's host.")
    parser.add_argument("--settings", type=Path, required=True, help="YAML settings file")
    parser.add_argument("--check-config", action="store_true", help="check settings and camera, and end")
    arguments = parser.parse_args()
    return check(arguments.settings) if arguments.check_config else serve(arguments.settings)


if __name__ == "__main__":
    sys.exit(main())
