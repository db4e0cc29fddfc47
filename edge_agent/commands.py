"""``hemolink edge``: run a microscope's host, start and stop cases, look after the spool."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from broker_config.topics import Verb
    from edge_agent.settings import Settings
    from edge_agent.spool import Spool

_settings_option = click.option(
    "--settings",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The edge's YAML settings file.",
)
_local_option = click.option(
    "--local", is_flag=True, help="Write the agent's own directory on this machine; works without the broker."
)


@click.group()
def edge() -> None:
    """Run and steer a microscope's host."""


@edge.command()
@_settings_option
def run(path: Path) -> None:
    """Run the agent until SIGTERM or Ctrl-C; what is not delivered stays in the spool."""
    from edge_agent.daemon import serve  # noqa: PLC0415 - heavy imports wait for their command

    sys.exit(serve(path))


@edge.command("check-config")
@_settings_option
def check_config(path: Path) -> None:
    """Check a settings file and that its camera's kind is installed."""
    from edge_agent.daemon import check  # noqa: PLC0415 - heavy imports wait for their command

    sys.exit(check(path))


@edge.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def cameras(*, as_json: bool) -> None:
    """List the kinds of camera that can be named in the settings."""
    from edge_agent.cameras.registry import camera_class, camera_kinds  # noqa: PLC0415 - likewise

    kinds = camera_kinds()
    if as_json:
        click.echo(json.dumps(kinds))
        return
    for kind, provider in kinds.items():
        summary = (camera_class(kind).Settings.__doc__ or provider).strip().splitlines()[0]
        click.echo(f"{kind:<12} {summary}")


@edge.command()
@_settings_option
def status(path: Path) -> None:
    """Ask a running agent for its state, as JSON."""
    answer = _ordered(path, "status")
    click.echo(answer.state.model_dump_json(indent=2) if answer.state else answer.message)


@edge.group()
def case() -> None:
    """Say whose slide is on the stage."""


@case.command("start")
@_settings_option
@click.argument("code")
@click.option("--stat", is_flag=True, help="Before routine cases.")
@_local_option
def case_start(path: Path, code: str, *, stat: bool, local: bool) -> None:
    """Start the case CODE: an opaque accession code, never a name."""
    from edge_agent.case_book import CaseBook, check_code  # noqa: PLC0415 - likewise

    priority = "stat" if stat else "routine"
    _guarded(lambda: check_code(code))
    if local:
        book = CaseBook(_load(path).directory)
        started = _guarded(lambda: book.start(code, priority="stat" if stat else "routine"))
        click.echo(f"case {started.code} ({started.priority}) is started")
        return
    click.echo(_ordered(path, "case-start", case=code, priority=priority).message)


@case.command("stop")
@_settings_option
@_local_option
def case_stop(path: Path, *, local: bool) -> None:
    """Stop the current case; without one, a live camera takes no pictures."""
    from edge_agent.case_book import CaseBook  # noqa: PLC0415 - likewise

    if local:
        ended = _guarded(CaseBook(_load(path).directory).stop)
        click.echo(f"case {ended.code} is stopped" if ended else "no case was started")
        return
    click.echo(_ordered(path, "case-stop").message)


@edge.group()
def spool() -> None:
    """Look after the frames that are not delivered yet."""


@spool.command("list")
@_settings_option
@click.option("--parked", is_flag=True, help="Only those that wait for a person.")
@click.option("--lost", is_flag=True, help="Only those that the disk has lost.")
@click.option("--limit", default=1000, show_default=True, help="At most so many of each.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array; lost frames have the state 'lost'.")
def spool_list(path: Path, *, parked: bool, lost: bool, limit: int, as_json: bool) -> None:
    """List the frames in the spool, oldest first, and those that were lost with a damaged disk."""

    def read(store: "Spool") -> tuple[list[Any], list[Any], Any]:
        rows = [] if lost else store.rows(state="parked" if parked else None, limit=limit)
        return rows, [] if parked else store.lost(limit=limit), store.totals

    rows, gone, totals = _with_spool(path, read)
    if as_json:
        lines = [vars(row) for row in rows] + [{"state": "lost", **vars(one)} for one in gone]
        click.echo(json.dumps(lines))
        return
    for row in rows:
        click.echo(
            f"{row.frame_id}  {row.state:<9} {row.case:<20} {row.captured_at[:19]}Z {row.size:>9} bytes  "
            f"tries {row.attempts}" + (f"\n    {row.reason}" if row.reason else "")
        )
    if gone:
        click.echo("Lost with the disk:")
    for one in gone:
        click.echo(
            f"number {one.sequence}  {one.frame_id or 'id unknown'}  {one.case or 'case unknown'}  found {one.lost_at[:19]}Z  "
            f"{'told' if one.told else 'not told yet'}\n    {one.reason}"
        )
    click.echo(
        f"{totals.unsettled} waiting, {totals.parked} parked, {totals.damaged} lost, {totals.size / 1e6:.1f} MB",
        err=True,
    )


@spool.command("show")
@_settings_option
@click.argument("frame_id")
def spool_show(path: Path, frame_id: str) -> None:
    """Show a frame's message without its image, as JSON."""
    frame = _read_frame(path, frame_id)
    click.echo(frame.model_copy(update={"image": b"-"}).model_dump_json(indent=2, exclude={"image"}))


@spool.command("retry")
@_settings_option
@click.argument("frame_ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every parked frame.")
def spool_retry(path: Path, frame_ids: tuple[str, ...], *, everything: bool) -> None:
    """Send parked frames again."""

    def take_back(store: "Spool") -> tuple[int, int]:
        wanted = (
            [row.frame_id for row in store.rows(state="parked", limit=1_000_000)] if everything else frame_ids
        )
        return sum(store.retry(frame_id) for frame_id in wanted), len(wanted)

    done, wanted = _with_spool(path, take_back)
    click.echo(f"{done} of {wanted} frames go back into the row")
    if done < wanted:
        sys.exit(1)


@spool.command("export")
@_settings_option
@click.argument("frame_id")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
def spool_export(path: Path, frame_id: str, directory: Path) -> None:
    """Write a frame's image and message into DIRECTORY; the spool keeps it."""
    frame = _read_frame(path, frame_id)
    directory.mkdir(parents=True, exist_ok=True)
    suffix = "jpg" if frame.encoding == "jpeg" else frame.encoding
    (directory / f"{frame_id}.{suffix}").write_bytes(frame.image)
    (directory / f"{frame_id}.json").write_text(
        frame.model_dump_json(indent=2, exclude={"image"}), encoding="utf-8"
    )
    click.echo(f"{directory / frame_id}.{suffix} and .json")


# Inside


def _guarded(action: Callable[[], Any]) -> Any:
    """Turn an error into one line and exit code 1 (2 for settings)."""
    from broker_config.errors import ContractError, SettingsError  # noqa: PLC0415 - likewise
    from edge_agent.errors import EdgeError  # noqa: PLC0415 - likewise

    try:
        return action()
    except SettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except (EdgeError, ContractError) as error:
        click.echo(str(error), err=True)
        sys.exit(1)


def _load(path: Path) -> "Settings":
    from broker_config.settings import load_settings  # noqa: PLC0415 - likewise
    from edge_agent.settings import Settings  # noqa: PLC0415 - likewise

    loaded: Settings = _guarded(lambda: load_settings(path, Settings))
    return loaded


def _with_spool(path: Path, action: Callable[["Spool"], Any]) -> Any:
    """Attach to the spool beside its agent, do something, and detach."""
    from edge_agent.errors import SpoolUnavailable  # noqa: PLC0415 - likewise
    from edge_agent.spool import FILE_NAME, Spool  # noqa: PLC0415 - likewise

    settings = _load(path)
    file = settings.directory / FILE_NAME
    store = Spool(file, max_bytes=settings.spool.max_bytes)

    def act() -> Any:
        if not file.exists():
            raise SpoolUnavailable(f"there is no spool at {file}: check 'directory' in the settings")
        store.attach()
        try:
            return action(store)
        finally:
            store.close()

    return _guarded(act)


def _read_frame(path: Path, frame_id: str) -> Any:
    from broker_config.codec import decode  # noqa: PLC0415 - likewise
    from broker_config.messages import Frame  # noqa: PLC0415 - likewise

    def read(store: "Spool") -> tuple[bytes | None, list[Any]]:
        return store.payload(frame_id), [
            one for one in store.lost(limit=1_000_000) if one.frame_id == frame_id
        ]

    payload, gone = _with_spool(path, read)
    if payload is None:
        if gone:
            said = f"the frame {frame_id} (number {gone[0].sequence}) was lost on {gone[0].lost_at[:19]}Z: {gone[0].reason}"
        else:
            said = f"no frame {frame_id} in the spool: it is delivered, or was never here"
        click.echo(said, err=True)
        sys.exit(1)
    return _guarded(lambda: decode(payload, Frame))


def _ordered(path: Path, verb: "Verb", **fields: Any) -> Any:
    from edge_agent.remote import send_order  # noqa: PLC0415 - likewise

    settings = _load(path)
    answer = _guarded(lambda: send_order(settings, verb, **fields))
    if not answer.ok:
        click.echo(answer.message, err=True)
        sys.exit(1)
    return answer
