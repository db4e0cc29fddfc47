"""``python -m clinician_dashboard --settings dashboard.yaml``."""

import argparse
import logging
import sys
from pathlib import Path

from broker_config.errors import SettingsError
from broker_config.logs import configure
from broker_config.process import Shutdown
from broker_config.settings import load_settings
from clinician_dashboard.allocator import keep_small, keep_started
from clinician_dashboard.dashboard import Dashboard
from clinician_dashboard.errors import DashboardError
from clinician_dashboard.settings import Settings

EXIT_SETTINGS = 2
EXIT_FAILED = 1


def serve(path: Path, *, check_only: bool = False) -> int:
    """Run the dashboard from a settings file until a signal; return the exit status."""
    try:
        settings = load_settings(path, Settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_SETTINGS
    if check_only:
        print(f"{path}: good")
        return 0
    configure(settings.log.level, settings.log.form)
    keep_small()  # before the first thread starts
    shutdown = Shutdown()
    shutdown.install()
    try:
        dashboard = Dashboard(settings)
        dashboard.start()
    except DashboardError as error:
        logging.getLogger(__name__).error("%s", error)  # noqa: TRY400 - the sentence says it all
        return EXIT_FAILED
    keep_started()
    dashboard.run(shutdown.requested)
    dashboard.stop()
    return 0


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="clinician_dashboard", description="The clinician's pages and the record."
    )
    parser.add_argument("--settings", type=Path, required=True, help="YAML settings file")
    parser.add_argument("--check-config", action="store_true", help="check the settings file and end")
    arguments = parser.parse_args()
    sys.exit(serve(arguments.settings, check_only=arguments.check_config))


if __name__ == "__main__":
    main()
