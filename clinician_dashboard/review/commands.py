"""``hemolink dashboard export-labels``: reviewed frames as a manifest for training."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from clinician_dashboard.settings import Settings


@click.command("export-labels")
@click.option(
    "--settings", type=click.Path(path_type=Path), required=True, help="YAML settings file of the dashboard."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for manifest.csv and the images; made if missing.",
)
@click.option("--reference", is_flag=True, help="Name the images where they lie in the record; copy none.")
@click.option(
    "--conclusions",
    is_flag=True,
    help="List frames that nobody gave a class under their case's conclusion; their label source says so.",
)
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on standard output.")
def export_labels(settings: Path, out: Path, *, reference: bool, conclusions: bool, as_json: bool) -> None:
    """Write the frames of signed cases, with the class that a reader gave each, as a manifest.

    hemolink model train and hemolink model manifest read it. Only the latest signed version of each case counts. The dashboard
    may be running. The images are of patients: what leaves the clinic is the clinic's decision.
    """
    from broker_config.messages import now  # noqa: PLC0415 - heavy imports wait for their command
    from clinician_dashboard.access.commands import shell_actor  # noqa: PLC0415
    from clinician_dashboard.audit import append  # noqa: PLC0415
    from clinician_dashboard.errors import DashboardError  # noqa: PLC0415
    from clinician_dashboard.record.beside import open_or_join  # noqa: PLC0415
    from clinician_dashboard.record.images import ImageStore  # noqa: PLC0415
    from clinician_dashboard.review.labels import export_labels as write  # noqa: PLC0415

    given = _load(settings)
    try:
        with (
            open_or_join(
                given.record_url,
                given.directory,
                password=given.read_database_password,
                tls=given.read_database_tls,
            ) as record,
            click.progressbar(length=1, label="cases", file=sys.stderr) as bar,
        ):

            def progress(done: int, whole: int) -> None:
                bar.length = max(1, whole)
                bar.update(done - bar.pos)

            images = ImageStore(given.directory / "images")
            done = write(record, images, out, reference=reference, conclusions=conclusions, progress=progress)
            with record.transaction() as session:
                append(
                    session,
                    actor=shell_actor(),
                    action="labels.export",
                    subject="labels",
                    at=now(),
                    frames=done.rows,
                    cases=done.cases,
                )
    except DashboardError as error:
        raise click.ClickException(str(error)) from None
    for label, number in sorted(done.by_label.items()):
        click.echo(f"{label:<10} {number}", err=as_json)
    click.echo(
        f"{out / 'manifest.csv'}: {done.rows} frames of {done.cases} signed cases; left out: {done.unlabelled} without a class, "
        f"{done.not_assessable} not assessable, {done.conflicts} with two classes, {done.missing} whose image is missing.",
        err=True,
    )
    for one in done.changed:
        click.echo(f"NOT what was signed, left out: {one}. Look into the audit.", err=True)
    if as_json:
        click.echo(json.dumps(done.as_json()))
    sys.exit(1 if done.changed else 0)


def _load(path: Path) -> "Settings":
    from broker_config.errors import SettingsError  # noqa: PLC0415
    from broker_config.settings import load_settings  # noqa: PLC0415
    from clinician_dashboard.settings import Settings  # noqa: PLC0415

    try:
        return load_settings(path, Settings)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
