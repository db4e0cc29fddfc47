"""``hemolink bench worker``: the whole path of a worker beside its engine alone."""

import json
import sys
import tempfile
from pathlib import Path

import click


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
@click.option("--json", "as_json", is_flag=True, help="The last line of standard output is one JSON object.")
def worker(*, frames: int, rounds: int, model: str, seed: int, at_least: float, as_json: bool) -> None:
    """Measure the engine alone, a plain MQTT loop, and our worker, side by side on the same frames.

    Mosquitto, the loop and the worker are real processes on this machine; so is what feeds them, which takes its share of
    the same cores. The rounds alternate, so that a busy machine is unfair to all alike.
    """
    from broker_config.errors import ContractError  # noqa: PLC0415 - heavy imports wait for their command
    from hemolink.bench.worker_rates import WAYS, Rates  # noqa: PLC0415
    from hemolink.console import console_for  # noqa: PLC0415
    from hemolink.errors import FrontDoorError  # noqa: PLC0415
    from model_zoo.errors import ModelZooError  # noqa: PLC0415

    console = console_for(as_json=as_json)
    with tempfile.TemporaryDirectory(prefix="hemolink-bench-") as directory:
        rates = Rates(model=model, directory=Path(directory), console=console, seed=seed)
        try:
            rates.run(frames=frames, rounds=rounds)
        except (FrontDoorError, ContractError, ModelZooError) as error:
            raise click.ClickException(str(error)) from error
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
    if as_json:
        click.echo(
            json.dumps(
                {
                    "model": model,
                    "engine": rates.engine_name,
                    "frames": frames,
                    "rounds": rounds,
                    "seed": seed,
                    **{name: figures[name] for name in WAYS},
                    "worker_of_plain": round(rates.ways["worker"].rate / rates.ways["plain"].rate, 3),
                    "passed": enough,
                    "simulated": True,
                }
            )
        )
    sys.exit(0 if enough else 1)
