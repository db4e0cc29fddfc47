"""``hemolink dashboard``: the dashboard's part of the command line."""

import sys
from pathlib import Path

import click


@click.group()
def dashboard() -> None:
    """Record diagnoses and show them to clinicians."""


_settings = click.option(
    "--settings", type=click.Path(path_type=Path), required=True, help="YAML settings file of the dashboard."
)


@dashboard.command()
@_settings
def run(settings: Path) -> None:
    """Run the dashboard until a signal."""
    from clinician_dashboard.__main__ import serve  # noqa: PLC0415 - the web framework is slow to import

    sys.exit(serve(settings))


@dashboard.command("check-config")
@_settings
def check_config(settings: Path) -> None:
    """Check a settings file and say what is wrong with it."""
    from clinician_dashboard.__main__ import serve  # noqa: PLC0415 - the web framework is slow to import

    sys.exit(serve(settings, check_only=True))
