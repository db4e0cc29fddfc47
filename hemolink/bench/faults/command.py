"""``hemolink bench faults``: break everything while frames flow, and count them."""

import json
import logging
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(5, 86_400),
    default=60.0,
    show_default=True,
    help="How long frames flow and faults fall.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=1,
    show_default=True,
    help="The same seed and options give the same schedule.",
)
@click.option(
    "--rate", type=click.FloatRange(0.5, 200), default=8.0, show_default=True, help="Pictures a second."
)
@click.option(
    "--every",
    type=click.FloatRange(0.2, 3600),
    default=3.6,
    show_default=True,
    help="Mean seconds between two faults.",
)
@click.option(
    "--settle",
    type=click.FloatRange(1, 3600),
    default=180.0,
    show_default=True,
    help="Longest time to settle after the load, in seconds.",
)
@click.option(
    "--real-workers",
    type=click.IntRange(0, 3),
    default=1,
    show_default=True,
    help="How many of the three workers serve the packaged model; the others serve a stand-in.",
)
@click.option(
    "--only", "kinds", multiple=True, metavar="KIND", help="This kind of fault alone; may be repeated."
)
@click.option("--list", "list_kinds", is_flag=True, help="List the kinds of faults, and end.")
@click.option(
    "--no-resend",
    is_flag=True,
    help="Switch the edges' resend rule off: frames must then be lost, which shows that this check can fail.",
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep logs, databases, images and schedule in this new folder.",
)
@click.option(
    "--judge",
    "kept_run",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Judge a run kept with --keep again, and break nothing.",
)
@click.option("--json", "as_json", is_flag=True, help="The last line of standard output is one JSON object.")
def faults(  # noqa: C901 - options, and what follows from them
    *,
    seconds: float,
    seed: int,
    rate: float,
    every: float,
    settle: float,
    real_workers: int,
    kinds: tuple[str, ...],
    list_kinds: bool,
    no_resend: bool,
    keep: Path | None,
    kept_run: Path | None,
    as_json: bool,
) -> None:
    """Break everything while frames flow, and count them.

    Two edges, three workers, Mosquitto and the record run as processes; a seeded schedule kills, freezes, cuts, fills,
    corrupts and confuses them. Afterwards the harness opens record and spools itself and looks for each picture that it
    gave. Exit code 1 if one is lost or doubled, or a process did not come back. The pictures are SIMULATED.
    """
    from hemolink.bench.faults.disk import private_mounts  # noqa: PLC0415 - before any thread is started

    no_mounts = private_mounts() if not (list_kinds or kept_run) else ""
    from broker_config.errors import ContractError  # noqa: PLC0415 - the command alone pays for what it starts
    from broker_config.process import Shutdown  # noqa: PLC0415
    from hemolink.bench.faults import report  # noqa: PLC0415
    from hemolink.bench.faults.kinds import KINDS  # noqa: PLC0415
    from hemolink.bench.faults.run import Run, RunOptions  # noqa: PLC0415
    from hemolink.console import console_for  # noqa: PLC0415
    from hemolink.errors import FrontDoorError  # noqa: PLC0415

    if list_kinds:
        for kind in KINDS.values():
            click.echo(f"{kind.name:<16}{kind.summary}")
        return
    if kept_run is not None:
        _judge(kept_run)
        return
    for name in kinds:
        if name not in KINDS:
            raise click.ClickException(f"no kind of fault is called {name!r}: --list names them")
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise click.ClickException(f"{keep} is not empty: name a new or an empty folder with --keep")
    console = console_for(as_json=as_json)
    options = RunOptions(
        seconds=seconds,
        seed=seed,
        per_s=rate,
        every_s=every,
        settle_s=settle,
        real_workers=real_workers,
        resend=not no_resend,
        kinds=kinds,
        no_mounts=no_mounts,
    )
    logging.getLogger().addHandler(
        logging.NullHandler()
    )  # what the harness's own client goes through is no news
    shutdown = Shutdown()
    shutdown.install()
    console.say(f"Breaking a whole Hemolink for {seconds:.0f} s, seed {seed}. The pictures are SIMULATED.")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hemolink-faults-")))
        run = Run(options, directory=directory, console=console, stopping=shutdown.requested)
        try:
            outcome = run.run(keep=keep)
        except (FrontDoorError, ContractError, OSError) as error:
            console.say(f"Fault: {error}")
            if as_json:
                click.echo(json.dumps({"fault": str(error), "seed": seed, "seconds": seconds}))
            raise SystemExit(1) from None
    for line in report.lines(outcome, options):
        console.say(line)
    if keep is not None:
        console.say(f"Logs, databases, images and schedule are in {keep}.")
    if as_json:
        click.echo(json.dumps(report.as_json(outcome, options)))
    if not outcome.holds:
        raise SystemExit(1)


def _judge(directory: Path) -> None:
    from hemolink.bench.faults import report  # noqa: PLC0415 - as above
    from hemolink.bench.faults.kept import judge_kept  # noqa: PLC0415
    from hemolink.errors import FrontDoorError  # noqa: PLC0415

    try:
        verdict = judge_kept(directory)
    except FrontDoorError as error:
        raise click.ClickException(str(error)) from None
    for line in (*report.totals(verdict), *report.problems(verdict)):
        click.echo(line)
    if not verdict.holds:
        raise SystemExit(1)
