"""`hemolink model guard-check`: does a package know what it does not know?"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model_zoo.command_errors import clear_errors
from model_zoo.datasets.progress import Steps
from model_zoo.packaging_command import read_folder

if TYPE_CHECKING:
    from model_zoo.card import GuardMetrics

_SHIPPED = ("resnet34-simulated", "densenet121-simulated")


@click.command(name="guard-check")
@click.option(
    "--model",
    "names",
    multiple=True,
    default=_SHIPPED,
    show_default=True,
    help="Name or folder of a package; may be repeated.",
)
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    help="A manifest.csv, or its folder: labelled frames of the package's own sources are inside, all others outside. Fresh "
    "simulated patients otherwise.",
)
@click.option(
    "--patients",
    type=click.IntRange(20),
    default=600,
    show_default=True,
    help="Fresh simulated patients, one field each, inside. With few frames the calibration error is mostly chance.",
)
@click.option(
    "--strange",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="Frames to make blank, blurred and wrongly magnified ones of.",
)
@click.option(
    "--outside",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    help="A folder of frames that the package should refuse; may be repeated.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=20_261_201,
    show_default=True,
    help="Of patients and of every choice.",
)
@click.option("--engine", type=click.Choice(["auto", "openvino", "torch", "onnxruntime"]), default="auto")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON document on standard output.")
def guard_check(
    *,
    names: tuple[str, ...],
    manifest: Path | None,
    patients: int,
    strange: int,
    outside: tuple[Path, ...],
    seed: int,
    engine: str,
    precision: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Check what a package's guard promises, on frames that no threshold has seen, through the engine that serves.

    Calibration error, coverage of the prediction sets, acute leukaemia reported as not acute, frames accepted; and how well
    blank, blurred and wrongly magnified frames, and those of --outside, are told from the package's own.
    """
    from model_zoo.catalogue import find_package  # noqa: PLC0415
    from model_zoo.guard_check import describe  # noqa: PLC0415
    from model_zoo.guard_trial import from_manifest, from_simulator  # noqa: PLC0415
    from model_zoo.predictor import Predictor  # noqa: PLC0415

    found: dict[str, GuardMetrics] = {}
    with clear_errors():
        folders = {f"frames of {folder.name}": read_folder(folder) for folder in outside}
        for name in names:
            package = find_package(name)
            predictor: Predictor = Predictor(package, engine=engine, precision=precision)  # type: ignore[arg-type]
            predictor.start()
            try:
                with Steps(sys.stderr, hidden=quiet) as steps:
                    common: dict[str, Any] = {
                        "strange": strange,
                        "outside": folders,
                        "seed": seed,
                        "progress": steps.step,
                    }
                    found[package.name] = (
                        from_simulator(predictor, patients=patients, **common)
                        if manifest is None
                        else from_manifest(predictor, manifest, **common)
                    )
            finally:
                predictor.stop()
            if not as_json:
                click.echo(f"{package.name} {package.version}\n{describe(found[package.name])}\n")
                for said in (
                    package.card.calibration.set_statement,
                    package.card.acute.statement if package.card.acute else "",
                ):
                    if said:
                        click.echo(f"{said}\n")
    if as_json:
        click.echo(json.dumps({name: row.model_dump(mode="json") for name, row in found.items()}))
