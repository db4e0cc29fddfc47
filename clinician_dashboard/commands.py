"""``hemolink dashboard``: the dashboard's part of the command line."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clinician_dashboard.access.commands import create_admin, token, verify_audit
from clinician_dashboard.review.commands import export_labels

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from clinician_dashboard.settings import Settings
    from clinician_dashboard.verify import Verdict


@click.group()
def dashboard() -> None:
    """Record diagnoses and show them to clinicians."""


for _command in (create_admin, token, verify_audit, export_labels):
    dashboard.add_command(_command)


_settings = click.option(
    "--settings", type=click.Path(path_type=Path), required=True, help="YAML settings file of the dashboard."
)
_json = click.option("--json", "as_json", is_flag=True, help="End with one JSON object on standard output.")


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


@dashboard.command()
@_settings
@_json
@click.argument("destination", type=click.Path(path_type=Path, file_okay=False))
def backup(settings: Path, destination: Path, *, as_json: bool) -> None:
    """Back the record up into the folder DESTINATION, while the dashboard goes on.

    A second backup into the same folder copies only what is new. The folder is a whole backup when it holds manifest.json,
    which is written last and names every file with its SHA-256. Of a record on a PostgreSQL server only the images are
    backed up: dump the database with pg_dump first.
    """
    from clinician_dashboard.backup import back_up_images, make_backup  # noqa: PLC0415 - slow to import

    named = _named(settings)
    source = named.directory
    with _told(), _server(named) as server, _progress("images", quiet=as_json) as progress:
        if server is None:
            report = make_backup(source, destination, progress=progress)
        else:
            report = back_up_images(server, source, destination, progress=progress)
    if as_json:
        click.echo(json.dumps({"destination": str(destination), "database": server is None, **vars(report)}))
        return
    if server is not None:
        click.echo(
            f"{destination}: the images of {source}, {report.images} of them, of which {report.copied} were copied now "
            f"({report.bytes_copied / 1e6:.1f} MB)."
        )
        click.echo(
            "The database is NOT in it: this command copies SQLite only. Dump it first, then run this command, so that every "
            f"image that the dump names is here:\n  pg_dump --format=custom --file={destination}.dump {named.database_url}"
        )
        return
    click.echo(
        f"{destination}: a whole backup of {source}. {report.images} images, of which {report.copied} were copied now "
        f"({report.bytes_copied / 1e6:.1f} MB with the database)."
    )
    if report.dropped:
        click.echo(
            f"{report.dropped} frames that still waited for a diagnosis are not in it; their edges have them."
        )


@dashboard.command()
@_settings
@_json
@click.argument("source", type=click.Path(path_type=Path, file_okay=False))
def restore(settings: Path, source: Path, *, as_json: bool) -> None:
    """Bring the backup in the folder SOURCE back as the record that the settings name.

    Nothing is ever overwritten, and every file is checked against its SHA-256. Frames that were recorded after the backup
    are not in it, and the microscopes no longer have them: the command says so, and the record will say which they are.
    """
    from clinician_dashboard.restore import AFTER_A_RESTORE  # noqa: PLC0415
    from clinician_dashboard.restore import restore as bring_back  # noqa: PLC0415

    named = _named(settings)
    destination, on_a_server = named.directory, _is_on_a_server(named)
    with _told(), _progress("images", quiet=as_json) as progress:
        manifest = bring_back(source, destination, progress=progress, on_a_server=on_a_server)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "directory": str(destination),
                    "made_at": manifest["made_at"],
                    "images": len(manifest["images"]),
                    "note": AFTER_A_RESTORE,
                }
            )
        )
        return
    if on_a_server:
        click.echo(
            f"{destination}: {len(manifest['images'])} images, every hash checked. The database is NOT brought back by this "
            f"command: bring the dump that was made before this backup back, into an empty database, with\n  pg_restore "
            f"--dbname={named.database_url} FILE"
        )
        click.echo(AFTER_A_RESTORE)
        return
    click.echo(
        f"{destination}: the record as it was at {manifest['made_at']}, with {len(manifest['images'])} images, every hash "
        "checked."
    )
    click.echo(AFTER_A_RESTORE)


@dashboard.command()
@_settings
@_json
def move(settings: Path, *, as_json: bool) -> None:
    """Move the record from its folder to the PostgreSQL server that database_url names.

    For a record that has outgrown its file: stop the dashboard, name an empty database in the settings, run this, and start
    the dashboard again. Every row is copied and compared, in one transaction; the images stay in the folder. The microscopes
    keep their frames meanwhile.
    """
    from clinician_dashboard.move import move_to_server  # noqa: PLC0415 - the database library is slow to import
    from clinician_dashboard.record.engines import address_of  # noqa: PLC0415

    named = _named(settings)
    place = address_of(named.record_url).render_as_string()
    with _told(), _server(named, writing=True) as server, _progress("rows", quiet=as_json) as progress:
        if server is None:
            raise click.ClickException(
                "the settings name no server: write an empty database of it into database_url, for example "
                "postgresql://hemolink@db.example/record, and its password into database_password_file"
            )
        moved = move_to_server(named.directory, server, place=place, progress=progress)
    if as_json:
        click.echo(json.dumps({"rows": moved.rows, "kept": str(moved.kept)}))
        return
    click.echo(
        f"Moved {sum(moved.rows.values()):,} rows of {len(moved.rows)} tables, each compared with its origin: "
        f"{moved.rows['cases']:,} cases, {moved.rows['frames']:,} frames, {moved.rows['audit']:,} rows of the audit."
    )
    click.echo(
        f"The images stay in {named.directory}. {moved.kept} is the record as it was, and nothing reads it any more: keep it "
        "until the database has been dumped."
    )
    click.echo(
        f"Next: hemolink dashboard verify-audit --settings {settings}\n      hemolink dashboard run --settings {settings}"
    )


@dashboard.command()
@_settings
@_json
@click.option(
    "--remove-orphans",
    is_flag=True,
    help="Remove image files that no frame names and that are older than an hour; the dashboard must not run.",
)
def verify(settings: Path, *, as_json: bool, remove_orphans: bool) -> None:
    """Look at every row and every image of the record, which may be in use; exit 1 if something is wrong.

    Checked: the database's integrity, each image against its SHA-256, a diagnosis for each recorded frame, image files that
    no frame names, and numbers of each microscope that never came.
    """
    from clinician_dashboard.verify import verify as look  # noqa: PLC0415 - the database library is slow to import

    named = _named(settings)
    with _told(), _server(named) as server, _progress("images", quiet=as_json) as progress:
        verdict = look(named.directory, progress=progress, remove_orphans=remove_orphans, server=server)
    if as_json:
        click.echo(json.dumps(verdict.as_json()))
    else:
        _tell(verdict)
    sys.exit(0 if verdict.sound else 1)


@dashboard.command()
@_settings
@click.option(
    "--format",
    "name",
    type=click.Choice(["pdf", "fhir-r4b", "fhir-r5", "hl7", "dicom-sr"]),
    default="pdf",
    show_default=True,
    help="What to write.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to write."
)
@click.option("--site", default="", help="Whose case, where several sites use the same code.")
@click.option(
    "--version",
    type=click.IntRange(min=0),
    help="A signed version; 0 for the preliminary state. The newest signed one if left out, or the preliminary state.",
)
@click.argument("case")
def export(settings: Path, case: str, name: str, out: Path, site: str, version: int | None) -> None:
    """Write a report of CASE, while the dashboard may be running.

    Of a signed case it is what was signed; else it is preliminary. Reports name the case by its code alone. What breaks its
    own standard (FHIR R4B or R5, HL7 v2.5.1) is not written.
    """
    from broker_config.process import write_durably  # noqa: PLC0415
    from clinician_dashboard.reports.formats import make_report  # noqa: PLC0415 - the database library is slow to import
    from clinician_dashboard.reports.looking import look  # noqa: PLC0415

    with _told(), look(_named(settings)) as reader:
        made = make_report(reader, case, name, site=site, version=version)
    try:
        write_durably(out, made.content)
    except OSError as error:
        raise click.ClickException(f"{out} cannot be written: {error.strerror or error}") from None
    simulated = " SIMULATED." if made.report.simulated else ""
    signature = made.report.signature
    signed = f"Signed by {signature.name or signature.login}." if signature else "Not signed."
    click.echo(
        f"{out}: {made.report.status} report of {case}, version {made.report.version}, {len(made.content)} bytes. "
        f"{signed}{simulated}"
    )


def _tell(verdict: "Verdict") -> None:
    from clinician_dashboard.web.words import missing as missing_words  # noqa: PLC0415

    click.echo(f"database     {verdict.database or verdict.note_on_database or 'whole'}")
    click.echo(
        f"frames       {verdict.frames}, of which {verdict.recorded} recorded; {verdict.images} images"
    )
    for name, words in (
        ("absent", "images that are missing, by frame"),
        ("altered", "images whose content was altered, by frame"),
        ("unanswered", "recorded frames without a diagnosis"),
        ("orphans", "image files that no frame names (harmless)"),
    ):
        count = verdict.counts.get(name, 0)
        if count:
            click.echo(f"{name:<12} {count} {words}:")
            for one in getattr(verdict, name):
                click.echo(f"             {one}")
    if verdict.removed:
        click.echo(f"removed      {verdict.removed} of the orphans")
    for device in verdict.missing:
        if device.count:
            click.echo(f"missing      {device.site}/{device.device}: {missing_words(device)}")
        if device.on_the_way:
            click.echo(
                f"on the way   {device.site}/{device.device}: {device.on_the_way} frames may still come"
            )
    click.echo("The record is sound." if verdict.sound else "The record is NOT sound.")


def _named(path: Path) -> "Settings":
    """Return the settings in a file."""
    from broker_config.errors import SettingsError  # noqa: PLC0415
    from broker_config.settings import load_settings  # noqa: PLC0415
    from clinician_dashboard.settings import Settings  # noqa: PLC0415

    try:
        return load_settings(path, Settings)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


def _is_on_a_server(settings: "Settings") -> bool:
    """Return whether the record's database is no file that these commands know."""
    url = settings.database_url
    if url is not None and url.startswith("sqlite"):
        raise click.ClickException(
            "database_url names a SQLite file of its own: leave it out, and the record lies in 'directory', where this command "
            "knows it"
        )
    return url is not None


@contextmanager
def _server(settings: "Settings", *, writing: bool = False) -> "Iterator[Engine | None]":
    """Give the way to the record's database where that is on a server: to read it, or as its writer."""
    from clinician_dashboard.record.engines import address_of, make_engine  # noqa: PLC0415

    if not _is_on_a_server(settings):
        yield None
        return
    engine = make_engine(
        address_of(settings.record_url),
        password=settings.read_database_password,
        tls=settings.read_database_tls,
        writing=writing,
        patient=True,
    )
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _told() -> Iterator[None]:
    """Let an error of the dashboard end the command with its sentence."""
    from clinician_dashboard.errors import DashboardError  # noqa: PLC0415

    try:
        yield
    except DashboardError as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def _progress(label: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Give a function that draws a bar on standard error."""
    if quiet:
        yield lambda _done, _whole: None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:
        told = 0

        def progress(done: int, whole: int) -> None:
            nonlocal told
            bar.length = whole
            bar.update(done - told)
            told = done

        yield progress
