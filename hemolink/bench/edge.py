"""``hemolink bench edge``: how fast an edge drains its spool, and in what memory."""

import json
import sys

import click


@click.command()
@click.option(
    "--frames", default=10_000, show_default=True, type=click.IntRange(20, 1_000_000), help="Frames to queue."
)
@click.option(
    "--kb", default=60, show_default=True, type=click.IntRange(4, 4000), help="Size of a frame's image, kB."
)
@click.option(
    "--min-rate",
    default=500.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Frames a second that draining must reach.",
)
@click.option(
    "--max-growth-mb",
    default=20.0,
    show_default=True,
    type=click.FloatRange(0),
    help="How far the agent's resident memory may grow.",
)
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Seed of the pictures.")
@click.option("--json", "as_json", is_flag=True, help="The last line of standard output is one JSON object.")
def edge(*, frames: int, kb: int, min_rate: float, max_growth_mb: float, seed: int, as_json: bool) -> None:
    """Queue frames in an edge whose broker is away, bring the broker back, and watch the spool drain.

    The edge is the real agent in a process of its own, the broker a real Mosquitto; a third process answers every frame
    with the receipts ``diagnosed`` and ``recorded``. Resident memory is read from /proc while frames are queued and while
    they drain, and compared with what it was when the first twentieth of them was in the spool, all libraries loaded.
    """
    import tempfile  # noqa: PLC0415 - only this command pays for what it starts
    from pathlib import Path  # noqa: PLC0415

    from broker_config.errors import ContractError  # noqa: PLC0415
    from hemolink.bench.edge_run import EdgeRun  # noqa: PLC0415
    from hemolink.console import console_for  # noqa: PLC0415
    from hemolink.errors import FrontDoorError  # noqa: PLC0415

    console = console_for(as_json=as_json)
    with tempfile.TemporaryDirectory(prefix="hemolink-bench-edge-") as directory:
        run = EdgeRun(frames, kb=kb, seed=seed, directory=Path(directory), console=console)
        try:
            result = run.run()
        except (ContractError, FrontDoorError) as error:
            raise click.ClickException(str(error)) from error
    holds = result.frames_per_s >= min_rate and result.growth_mb <= max_growth_mb
    console.say()
    console.say(f"  {'frames queued, broker away':<38}{result.frames:>10,} of {result.frame_kb:.0f} kB")
    console.say(f"  {'captured a second (folder of JPEGs)':<38}{result.captured_per_s:>10,.0f}")
    console.say(f"  {'drained a second':<38}{result.frames_per_s:>10,.0f}   at least {min_rate:,.0f}")
    console.say(f"  {'of them published more than once':<38}{result.resends:>10,}")
    console.say(f"  {'agent CPU a drained frame':<38}{result.cpu_ms_per_frame:>10.2f} ms")
    console.say(f"  {'resident memory, libraries loaded':<38}{result.base_mb:>10.1f} MB")
    console.say(f"  {'most while queueing':<38}{result.queueing_mb:>10.1f} MB")
    console.say(f"  {'most while draining':<38}{result.draining_mb:>10.1f} MB")
    console.say(f"  {'growth':<38}{result.growth_mb:>10.1f} MB   at most {max_growth_mb:g}")
    console.say("  It holds." if holds else "  It does NOT hold.")
    if as_json:
        limits = {"min_rate": min_rate, "max_growth_mb": max_growth_mb, "holds": holds}
        click.echo(json.dumps({**result.as_json(), **limits}))
    if not holds:
        sys.exit(1)
