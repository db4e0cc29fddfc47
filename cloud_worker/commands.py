"""``hemolink worker``: run a worker, check its settings, look after its dead letters."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cloud_worker.dead_letters import DeadLetters
    from cloud_worker.settings import Settings

_settings_option = click.option(
    "--settings",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The worker's YAML settings file.",
)


@click.group()
def worker() -> None:
    """Diagnose the frames that arrive at the broker."""


@worker.command()
@_settings_option
def run(path: Path) -> None:
    """Run a worker until SIGTERM or Ctrl-C; it finishes what it has taken."""
    from cloud_worker.daemon import serve  # noqa: PLC0415 - heavy imports wait for their command

    sys.exit(serve(path))


@worker.command("check-config")
@_settings_option
def check_config(path: Path) -> None:
    """Check a settings file and the model that it names."""
    from cloud_worker.daemon import check  # noqa: PLC0415 - heavy imports wait for their command

    sys.exit(check(path))


@worker.group("dead-letters")
def dead_letters() -> None:
    """Look after frames that could not be diagnosed."""


@dead_letters.command("list")
@_settings_option
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def list_(path: Path, *, as_json: bool) -> None:
    """List the dead letters, oldest first."""
    _, letters = _open(path)
    notes = letters.notes()
    if as_json:
        click.echo(json.dumps([note.model_dump(mode="json") for note in notes]))
        return
    for note in notes:
        click.echo(
            f"{note.sha256[:12]}  {note.at:%Y-%m-%d %H:%M:%S}Z  {note.code:<18} x{note.times:<4} "
            f"{note.payload_bytes:>9} bytes  {note.topic or '(no frame topic)'}\n    {note.reason}"
        )
    click.echo(f"{len(notes)} dead letter(s) in {letters.directory}", err=True)


@dead_letters.command()
@_settings_option
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every dead letter.")
@click.option("--keep", is_flag=True, help="Leave this worker's copy on disk.")
@click.option("--username", help="Operator at the broker: a worker may not give orders, by the access rules.")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Password of that user.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1, 600),
    default=15.0,
    show_default=True,
    help="Seconds to wait for each edge's answer.",
)
def replay(
    path: Path,
    names: tuple[str, ...],
    *,
    everything: bool,
    keep: bool,
    username: str | None,
    password_file: Path | None,
    timeout_s: float,
) -> None:
    """Ask the edges to send rejected frames again, for instance after a fault was mended.

    NAMES are SHA-256 sums as `list` shows them; their first digits suffice. A frame that had killed this worker is
    pardoned and tried once more, alone.
    """
    from broker_config.errors import ContractError  # noqa: PLC0415 - heavy imports wait for their command
    from cloud_worker.replay import Replay  # noqa: PLC0415

    settings, letters = _open(path)
    known = letters.notes()
    chosen = [note for note in known if everything or any(note.sha256.startswith(name) for name in names)]
    missing = [name for name in names if not any(note.sha256.startswith(name) for note in known)]
    if missing or not chosen:
        wanted = ", ".join(missing) or "nothing"
        raise click.ClickException(
            f"no dead letter matches {wanted}: 'hemolink worker dead-letters list' shows them"
        )
    broker = settings.broker
    if username is not None:
        broker = broker.model_copy(
            update={"username": username, "password_file": password_file, "password": None}
        )
    failed = 0
    try:
        for tried in Replay(broker, suspects=settings.suspects_directory, timeout_s=timeout_s).run(chosen):
            click.echo(f"{tried.note.sha256[:12]}: {tried.told}", err=not tried.ok)
            failed += not tried.ok
            if tried.ok and not keep:
                letters.remove(tried.note.sha256)
    except (ContractError, OSError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(1 if failed else 0)


def _open(path: Path) -> "tuple[Settings, DeadLetters]":
    from broker_config.errors import SettingsError  # noqa: PLC0415 - heavy imports wait for their command
    from broker_config.settings import load_settings  # noqa: PLC0415
    from cloud_worker.dead_letters import DeadLetters  # noqa: PLC0415
    from cloud_worker.settings import Settings  # noqa: PLC0415

    try:
        settings = load_settings(path, Settings)
        letters = DeadLetters(settings.directory / "dead-letters", settings.dead_letters)
        letters.open()
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    return settings, letters
