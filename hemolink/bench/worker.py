"""``hemolink bench worker``: the whole path of a worker beside its engine alone."""

import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hemolink.console import Console


@click.command()
@click.option(
    "--frames", type=click.IntRange(16), default=600, show_default=True, help="Frames a round and way."
)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds.")
@click.option("--model", default="resnet34-simulated", show_default=True, help="A model package.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the SIMULATED smears.")
@click.option(
    "--at-least",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Exit with 1 if the worker delivers less than this share of its engine's rate.",
)
@click.option(
    "--restarts",
    is_flag=True,
    help="Instead: how long frames take while a worker or the broker dies, by how long its session is kept.",
)
@click.option(
    "--kept",
    type=click.IntRange(0, 86_400),
    multiple=True,
    default=(0, 15),
    show_default=True,
    help="With --restarts: session_kept_s of the workers; 0 is a clean session.",
)
@click.option(
    "--scene",
    "scenes",
    type=click.Choice(["worker_2s", "worker_30s", "broker_2s"]),
    multiple=True,
    help="With --restarts: only this one; all unless given.",
)
@click.option("--json", "as_json", is_flag=True, help="The last line of standard output is one JSON object.")
def worker(
    *,
    restarts: bool,
    kept: tuple[int, ...],
    scenes: tuple[str, ...],
    seed: int,
    as_json: bool,
    at_least: float,
    **choices: Any,
) -> None:
    """Measure the engine alone, a plain MQTT loop, and our worker, side by side on the same frames.

    Mosquitto, the loop and the worker are real processes on this machine; so is what feeds them, which takes its share of
    the same cores. The rounds alternate, so that a busy machine is unfair to all alike.
    """
    from broker_config.errors import ContractError  # noqa: PLC0415 - heavy imports wait for their command
    from hemolink.console import console_for  # noqa: PLC0415
    from hemolink.errors import FrontDoorError  # noqa: PLC0415
    from model_zoo.errors import ModelZooError  # noqa: PLC0415

    console = console_for(as_json=as_json)
    # Unwinds as Ctrl-C does: what was started here is ended here.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="hemolink-bench-") as name:
        directory = Path(name)
        try:
            if restarts:
                result = _restarts(console, directory=directory, kept=kept, scenes=scenes, seed=seed)
            else:
                result = _rates(console, directory=directory, seed=seed, at_least=at_least, **choices)
        except (FrontDoorError, ContractError, ModelZooError) as error:
            raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(result | {"seed": seed, "simulated": True}))
    sys.exit(0 if result["passed"] else 1)


def _rates(
    console: "Console", *, directory: Path, seed: int, at_least: float, frames: int, rounds: int, model: str
) -> dict[str, Any]:
    from hemolink.bench.worker_rates import WAYS, Rates  # noqa: PLC0415 - imports OpenCV

    rates = Rates(model=model, directory=directory, console=console, seed=seed)
    rates.run(frames=frames, rounds=rounds)
    engine = rates.ways["engine"].rate
    figures = {name: rates.ways[name].as_json(engine) for name in WAYS}
    console.say(f"{model} with {rates.engine_name}, {rounds} rounds of {frames} frames each way")
    console.say(f"{'':8} {'images/s':>9} {'(lowest-highest)':>18} {'of engine':>10} {'CPU ms an image':>16}")
    for name, one in figures.items():
        spread = f"({one['lowest']:.0f}-{one['highest']:.0f})"
        console.say(
            f"{name:8} {one['images_per_s']:>9.1f} {spread:>18} {one['share_of_engine']:>10.0%} {one['cpu_ms']:>16.2f}"
        )
    enough = figures["worker"]["share_of_engine"] >= at_least
    if not enough:
        console.say(f"The worker delivers less than {at_least:.0%} of its engine's rate.")
    return {
        "model": model,
        "engine_name": rates.engine_name,
        "frames": frames,
        "rounds": rounds,
        **figures,
        "worker_of_plain": round(rates.ways["worker"].rate / rates.ways["plain"].rate, 3),
        "passed": enough,
    }


def _restarts(
    console: "Console", *, directory: Path, kept: tuple[int, ...], scenes: tuple[str, ...], seed: int
) -> dict[str, Any]:
    from hemolink.bench.worker_restarts import SCENES, Restarts  # noqa: PLC0415 - imports OpenCV

    console.say(
        "Three workers around a stand-in model, one edge at 20 frames a second; seconds from capture to diagnosis"
    )
    found = Restarts(directory=directory, console=console, seed=seed).run(
        kept, [one for one in SCENES if not scenes or one.name in scenes]
    )
    console.say(f"{'':24} {'frames':>7} {'p50':>8} {'p99':>8} {'max':>8} {'over 5 s':>9}")
    for name, one in found.items():
        console.say(
            f"{name:24} {one['frames']:>7} {one['p50_s']:>8.2f} {one['p99_s']:>8.2f} {one['max_s']:>8.2f} "
            f"{one['over_5_s']:>9}"
        )
    return {**found, "passed": True}
