"""``hemolink simulate``: images of simulated smears, with a manifest."""

import json
import sys
import time
from pathlib import Path

import click


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--patients", type=click.IntRange(1), default=10, show_default=True, help="Simulated patients.")
@click.option(
    "--frames", type=click.IntRange(1), default=4, show_default=True, help="Fields of view a patient."
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed, the same images."
)
@click.option("--width", type=click.IntRange(64, 8192), default=640, show_default=True, help="Pixels.")
@click.option("--height", type=click.IntRange(64, 8192), default=480, show_default=True, help="Pixels.")
@click.option(
    "--confound",
    is_flag=True,
    help="Give each class's slides a tint of their own, for an audit to find ('hemolink model audit').",
)
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object.")
def simulate(
    directory: Path,
    patients: int,
    frames: int,
    seed: int,
    *,
    width: int,
    height: int,
    confound: bool,
    as_json: bool,
) -> None:
    """Write images of simulated smears and a manifest to DIRECTORY.

    Every image is SIMULATED: no patient, no slide. Labels stand in manifest.csv, never in a file name.
    """
    from smear_simulator import Confound, SimulatorError, write_dataset  # noqa: PLC0415 - OpenCV is imported only when it is needed

    started = time.monotonic()
    try:
        with click.progressbar(length=patients * frames, label="Rendering", file=sys.stderr) as bar:
            done_before = 0

            def progress(done: int, _total: int) -> None:
                nonlocal done_before
                bar.update(done - done_before)
                done_before = done

            manifest = write_dataset(
                directory,
                patients=patients,
                frames=frames,
                seed=seed,
                width=width,
                height=height,
                confound=Confound(background_tint_by_class=confound),
                progress=progress,
            )
    except SimulatorError as error:
        raise click.ClickException(str(error)) from error
    seconds = time.monotonic() - started
    if as_json:
        click.echo(
            json.dumps(
                {
                    "directory": str(directory),
                    "manifest": str(manifest),
                    "patients": patients,
                    "images": patients * frames,
                    "seed": seed,
                    "seconds": round(seconds, 2),
                    "confound": confound,
                    "simulated": True,
                }
            )
        )
    else:
        click.echo(
            f"{patients * frames} SIMULATED images of {patients} patients in {directory}; labels in {manifest}"
        )
