"""``hemolink bench idle``: what an edge costs while nothing happens."""

import json
import sys

import click


@click.command()
@click.option(
    "--seconds", default=3600.0, show_default=True, type=click.FloatRange(1), help="How long to watch."
)
@click.option(
    "--max-percent",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Share of one core that it may cost.",
)
@click.option("--json", "as_json", is_flag=True, help="The last line of standard output is one JSON object.")
def idle(*, seconds: float, max_percent: float, as_json: bool) -> None:
    """Watch an edge that is connected and has nothing to do, and count the CPU time it takes.

    The edge is the real agent in a process of its own, with the heartbeat of a fresh installation, connected to a real
    Mosquitto; its camera is a folder that it watches and in which nothing appears. CPU time is read from /proc, user and
    system, all threads. A live camera costs its decoding on top, whatever we do.
    """
    import tempfile  # noqa: PLC0415 - only this command pays for what it starts
    from pathlib import Path  # noqa: PLC0415

    from broker_config.errors import ContractError  # noqa: PLC0415
    from hemolink.bench.idle_run import IdleRun  # noqa: PLC0415
    from hemolink.console import console_for  # noqa: PLC0415
    from hemolink.errors import FrontDoorError  # noqa: PLC0415

    console = console_for(as_json=as_json)
    with tempfile.TemporaryDirectory(prefix="hemolink-bench-idle-") as directory:
        try:
            result = IdleRun(seconds, directory=Path(directory), console=console).run()
        except (ContractError, FrontDoorError) as error:
            raise click.ClickException(str(error)) from error
    holds = result.percent <= max_percent
    hour = "an hour" if result.seconds >= result.HOUR_S else "an hour (EXTRAPOLATED)"
    console.say()
    console.say(f"  {'watched':<34}{result.seconds:>9.1f} s")
    console.say(f"  {'CPU time':<34}{result.cpu_s:>9.2f} s")
    console.say(f"  {'of one core':<34}{result.percent:>9.3f} %   at most {max_percent:g} %")
    console.say(f"  {f'CPU time of {hour}':<34}{result.cpu_s_per_hour:>9.1f} s")
    console.say(f"  {'wake-ups a second, all threads':<34}{result.wakeups_per_s:>9.1f}")
    console.say(
        f"  {'resident memory, begin and end':<34}{result.begin_mb:>9.1f} MB and {result.end_mb:.1f} MB"
    )
    console.say("  It holds." if holds else "  It does NOT hold.")
    if as_json:
        click.echo(json.dumps({**result.as_json(), "max_percent": max_percent, "holds": holds}))
    if not holds:
        sys.exit(1)
