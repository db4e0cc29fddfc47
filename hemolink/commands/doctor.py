"""``hemolink doctor``: what is wrong here, and what to do about it."""

import json
import logging
from pathlib import Path

import click

COLOURS = {"OK": "green", "WARN": "yellow", "FAULT": "red"}


@click.command()
@click.option(
    "--settings",
    "settings_files",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Settings of a daemon on this machine; may be given several times. The role is told by its keys.",
)
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object.")
def doctor(settings_files: tuple[Path, ...], *, as_json: bool) -> None:
    """Check machine, packages, broker, camera, models, record and spool.

    Each line is OK, WARN or FAULT, with the cause and the remedy. The exit code is 1 if there is a FAULT.
    """
    from hemolink.doctor import examine  # noqa: PLC0415 - opens brokers and databases only when asked

    logging.getLogger().addHandler(logging.NullHandler())  # the findings say what the session would log
    findings = examine(settings_files)
    faults = sum(finding.verdict == "FAULT" for finding in findings)
    warnings = sum(finding.verdict == "WARN" for finding in findings)
    if as_json:
        report = {
            "faults": faults,
            "warnings": warnings,
            "findings": [finding.as_json() for finding in findings],
        }
        click.echo(json.dumps(report))
    else:
        for finding in findings:
            verdict = click.style(f"{finding.verdict:<5}", fg=COLOURS[finding.verdict], bold=True)
            click.echo(f"{verdict}  {finding.area:<9} {finding.said}")
            if finding.remedy:
                click.echo(f"{'':16} -> {finding.remedy}")
        click.echo(f"FAULT: {faults}, WARN: {warnings}")
    if faults:
        raise SystemExit(1)
