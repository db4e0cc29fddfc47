"""``hemolink bench storm``: a broker restarts under many edges, and all of them come back."""

import json

import click


@click.command()
@click.option(
    "--edges", default=1000, show_default=True, type=click.IntRange(1, 20_000), help="How many edges."
)
@click.option(
    "--down",
    "down_s",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds without a broker.",
)
@click.option(
    "--how",
    type=click.Choice(["stop", "kill", "forget"]),
    multiple=True,
    default=("stop", "kill", "forget"),
    show_default=True,
    help="How the broker goes, one outage each: stop, kill (what it saved last is there), forget (it comes back empty).",
)
@click.option(
    "--rounds", default=1, show_default=True, type=click.IntRange(1), help="How often to do all of these."
)
@click.option(
    "--within",
    "within_s",
    default=60.0,
    show_default=True,
    type=click.FloatRange(1),
    help="Seconds after the broker listens again in which everyone must be back.",
)
@click.option(
    "--interval",
    "interval_s",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Seconds a frame.",
)
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Seed of the pauses.")
@click.option("--secured", is_flag=True, help="As at a site: TLS, and a password and rules for every edge.")
@click.option("--json", "as_json", is_flag=True, help="The last line of standard output is one JSON object.")
def storm(
    *,
    edges: int,
    down_s: float,
    how: tuple[str, ...],
    rounds: int,
    within_s: float,
    interval_s: float,
    seed: int,
    secured: bool,
    as_json: bool,
) -> None:
    """Restart a Mosquitto under many simulated edges, and watch them come back.

    Every edge is a real session with a birth, a will, and a small frame now and then that it keeps until its receipt.
    Holds if all are back in time, none was refused while the broker listened, no retained state says offline of an edge
    that lives, and every frame is recorded.
    """
    import tempfile  # noqa: PLC0415 - only this command pays for what it starts
    from pathlib import Path  # noqa: PLC0415

    from broker_config.errors import ContractError  # noqa: PLC0415
    from hemolink.bench import storm_run  # noqa: PLC0415
    from hemolink.console import console_for  # noqa: PLC0415
    from hemolink.errors import FrontDoorError  # noqa: PLC0415

    console = console_for(as_json=as_json)
    done: list[storm_run.Round] = []
    with tempfile.TemporaryDirectory(prefix="hemolink-storm-") as directory:
        run = storm_run.StormRun(
            edges,
            directory=Path(directory),
            interval_s=interval_s,
            within_s=within_s,
            seed=seed,
            secured=secured,
            tell=console.live,
        )
        try:
            run.start()
            for _ in range(rounds):
                for outage in how:
                    done.append(run.outage(outage, down_s))  # type: ignore[arg-type]
                    console.say(_line(done[-1]))
            captured, recorded, offline = run.finish()
        except (FrontDoorError, ContractError) as error:
            raise click.ClickException(str(error)) from None
        finally:
            run.stop()
    lost = captured - recorded
    ok = (
        lost == 0
        and offline == 0
        and all(storm_run.holds(one, edges=edges, within_s=within_s) for one in done)
    )
    console.say(
        f"{edges} edges, {len(done)} outages: {captured} frames captured, {recorded} recorded, {lost} lost; "
        f"{offline} retained states not online"
    )
    console.say("holds" if ok else "DOES NOT HOLD")
    if as_json:
        result = {
            "edges": edges,
            "secured": secured,
            "rounds": [storm_run.as_json(one) for one in done],
            "captured": captured,
            "recorded": recorded,
            "lost": lost,
            "false_offline": offline,
            "holds": ok,
        }
        click.echo(json.dumps(result))
    if not ok:
        raise SystemExit(1)


def _line(one: "object") -> str:
    return (
        "{outage:<6} away {down_s:>5} s | back: {connected} | p50 {p50_s} s, p99 {p99_s} s, last {last_s} s, births {born_s} s"
        " | refused {refused}, unanswered {unanswered}, queue overflows {overflows}"
    ).format(**vars(one))
