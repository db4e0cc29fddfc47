"""``hemolink bench ingest``: how many diagnoses a second enter the record, with their images, and in what memory."""

import json

import click

MIN_RATE = 300.0
MAX_GROWTH_MB = 30.0


@click.command()
@click.option(
    "--frames",
    default=10_000,
    show_default=True,
    type=click.IntRange(100),
    help="Frames with a diagnosis each.",
)
@click.option(
    "--image-bytes", default=60_000, show_default=True, type=click.IntRange(100), help="Size of each image."
)
@click.option(
    "--per-case", default=10, show_default=True, type=click.IntRange(1), help="Frames of each case."
)
@click.option(
    "--devices", default=8, show_default=True, type=click.IntRange(1, 999), help="Microscopes that send."
)
@click.option(
    "--broker",
    "brokers",
    type=click.Choice(["mosquitto", "embedded"]),
    multiple=True,
    default=("mosquitto",),
    show_default=True,
    help="Over which broker, one after the other.",
)
@click.option(
    "--least",
    default=MIN_RATE,
    show_default=True,
    type=click.FloatRange(0),
    help="Diagnoses a second that the median round must reach.",
)
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Seed of the images.")
@click.option("--json", "as_json", is_flag=True, help="The last line of standard output is one JSON object.")
def ingest(
    *,
    frames: int,
    image_bytes: int,
    per_case: int,
    devices: int,
    brokers: tuple[str, ...],
    least: float,
    seed: int,
    as_json: bool,
) -> None:
    """Send frames and their diagnoses to a dashboard as fast as its receipts come.

    The daemon runs as a process of its own, with a record on this machine's disk; a frame counts when its receipt
    ``recorded`` is here, which follows the commit of image and diagnosis. As edges do, the sender keeps a window. Holds if
    the median round of 1,000 frames reaches the rate, and the daemon's memory does not grow by more than 30 MB after the
    first fifth.
    """
    import tempfile  # noqa: PLC0415 - only this command pays for what it starts
    from pathlib import Path  # noqa: PLC0415

    from broker_config.errors import ContractError  # noqa: PLC0415
    from hemolink.bench.ingest_run import IngestRun, Plan  # noqa: PLC0415
    from hemolink.console import console_for  # noqa: PLC0415
    from hemolink.errors import FrontDoorError  # noqa: PLC0415

    console = console_for(as_json=as_json)
    plan = Plan(frames=frames, image_bytes=image_bytes, per_case=per_case, devices=devices, seed=seed)
    done = {}
    for broker in brokers:
        with tempfile.TemporaryDirectory(prefix="hemolink-ingest-") as directory:
            try:
                done[broker] = IngestRun(
                    plan, broker=broker, directory=Path(directory), tell=console.live
                ).run()
            except (FrontDoorError, ContractError) as error:
                raise click.ClickException(str(error)) from None
        console.say(f"{broker:<10} {done[broker].line()}")
    ok = all(one.rate >= least and one.growth_mb <= MAX_GROWTH_MB for one in done.values())
    console.say(
        "holds" if ok else f"DOES NOT HOLD: at least {least:.0f}/s and at most {MAX_GROWTH_MB:.0f} MB more"
    )
    if as_json:
        result = {
            "frames": frames,
            "image_bytes": image_bytes,
            "least_per_s": least,
            "brokers": {name: one.as_json() for name, one in done.items()},
            "holds": ok,
        }
        click.echo(json.dumps(result))
    if not ok:
        raise SystemExit(1)
