"""`hemolink model package`: from a run to a package."""

import json
import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

import click

from model_zoo.command_errors import clear_errors
from model_zoo.training_commands import FRAMES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model_zoo.card import Estimate, Expectation
    from model_zoo.store import FrameStore

_folder = click.Path(file_okay=False, path_type=Path)
_existing = click.Path(exists=True, file_okay=False, path_type=Path)
FURTHER: Final = "further-calibration"
FURTHER_FRAMES: Final = 2
FURTHER_SEED: Final = 20_261_123
"""Of further patients: another than any run's frames have."""
TRANSFER_FILE: Final = "transfer.json"
SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp"})


@click.command()
@click.option("--run", type=_folder, required=True, help="Folder of a finished training run.")
@click.option("--frames", "frames_folder", type=_folder, help="Its frames, if not in the run's folder.")
@click.option("--name", required=True, help="Name of the package.")
@click.option("--version", default="1.0.0", show_default=True, help="Version of the package.")
@click.option("--out", type=_folder, required=True, help="Folder to put the package's folder in.")
@click.option("--baseline/--no-baseline", default=True, show_default=True, help="Measure the baseline too.")
@click.option(
    "--alpha", type=click.FloatRange(0.001, 0.5), default=0.01, show_default=True, help="Of the sets."
)
@click.option(
    "--further-patients",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Further simulated patients for the thresholds alone, where the run's are too few; simulated runs only.",
)
@click.option(
    "--outside",
    type=_existing,
    multiple=True,
    help="A folder of frames that the package should refuse, for the card; may be repeated.",
)
@click.option(
    "--strange",
    type=click.IntRange(0),
    default=40,
    show_default=True,
    help="Test frames to make blank, blurred and wrongly magnified ones of, for the card.",
)
@click.option(
    "--keep-weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take this weights file as it is: thresholds anew, the network's hash unchanged. With --no-baseline, the baseline "
    "of the card beside it is kept too.",
)
@click.option(
    "--transfer",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What to expect elsewhere, as hemolink model transfer wrote it, for the card; the run's own otherwise.",
)
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON document on standard output.")
def package(
    *,
    run: Path,
    frames_folder: Path | None,
    name: str,
    version: str,
    out: Path,
    baseline: bool,
    alpha: float,
    further_patients: int,
    outside: tuple[Path, ...],
    strange: int,
    keep_weights: Path | None,
    transfer: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Make a model package from a run: fp16 weights, graph, guard, card with thresholds and figures.

    Every threshold comes from the calibration groups, every figure from the test groups. What hemolink model transfer found
    in the run's folder goes into the card: the error to expect elsewhere.
    """
    from model_zoo.baseline import baseline_accuracy  # noqa: PLC0415
    from model_zoo.evaluation import format_table  # noqa: PLC0415
    from model_zoo.guard_check import describe  # noqa: PLC0415
    from model_zoo.packaging import PackageSettings, build_package, check_place, load_run  # noqa: PLC0415
    from model_zoo.store import FrameStore  # noqa: PLC0415

    with clear_errors():
        check_place(out / name, name=name)
        store = FrameStore.open(frames_folder or run / FRAMES)
        _, split, _ = load_run(run)
        further = _further(run, store, further_patients, quiet=quiet)
        made = build_package(
            run,
            store,
            out / name,
            settings=PackageSettings(name, version=version, alpha=alpha, strange=strange),
            further=further,
            outside={f"frames of {folder.name}": read_folder(folder) for folder in outside},
            weights=keep_weights,
            baseline=baseline_accuracy(store, split)[0]
            if baseline
            else _kept_baseline(keep_weights, frames=len(split.test)),
            expectation=_expectation(
                transfer or run / TRANSFER_FILE, run=run, alpha=alpha, wanted=transfer is not None
            ),
            progress=None if quiet else _said(),
        )
    card = made.card
    if as_json:
        click.echo(json.dumps({"path": str(made.path), "card": card.model_dump(mode="json")}))
        return
    if card.metrics is not None:
        click.echo(format_table(card.metrics, name=name))
    if card.guard is not None:
        click.echo(f"\n{describe(card.guard)}")
    for said in (
        card.calibration.set_statement,
        card.acute.statement if card.acute else "",
        card.out_of_distribution.statement,
    ):
        if said:
            click.echo(f"\n{said}")
    click.echo(
        f"\nwritten: {made.path}; next, on frames kept aside: hemolink model evaluate --model {quote(str(made.path))} --manifest MANIFEST --out REPORT"
    )


def read_folder(folder: Path) -> "list[NDArray[np.uint8]]":
    """The images of a folder.

    Raises:
        DatasetError: If there is none, or one cannot be read.
    """
    from model_zoo.errors import DatasetError, ImageError  # noqa: PLC0415
    from model_zoo.image import decode_image  # noqa: PLC0415

    images = []
    for path in sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES):
        try:
            images.append(decode_image(path.read_bytes()))
        except (ImageError, OSError) as error:
            raise DatasetError(
                f"{path} cannot be read ({error}): remove it, or name another folder"
            ) from error
    if not images:
        raise DatasetError(
            f"{folder} holds no image ({', '.join(sorted(SUFFIXES))}): name a folder of frames"
        )
    return images


def _kept_baseline(weights: Path | None, *, frames: int) -> "Estimate | None":
    """The baseline in the card beside kept weights: it knows nothing of the network, and the split is the run's."""
    from model_zoo.card import CARD_FILE, read_card  # noqa: PLC0415

    if weights is None or not (weights.parent / CARD_FILE).is_file():
        return None
    metrics = read_card(weights.parent).metrics
    return metrics.baseline_macro_accuracy if metrics is not None and metrics.frames == frames else None


def _further(run: Path, store: "FrameStore", patients: int, *, quiet: bool) -> "FrameStore | None":
    from model_zoo.errors import TrainingError  # noqa: PLC0415
    from model_zoo.simulated import render_store  # noqa: PLC0415
    from model_zoo.store import INDEX_FILE, FrameStore  # noqa: PLC0415

    if not patients:
        return None
    if not store.simulated:
        raise TrainingError(
            "--further-patients draws simulated patients, and these frames are real: leave it out"
        )
    folder = run / f"{FURTHER}-{patients}"
    if (folder / INDEX_FILE).is_file():
        return FrameStore.open(folder)
    said = None if quiet else _said()
    return render_store(
        folder,
        patients=patients,
        frames=FURTHER_FRAMES,
        seed=FURTHER_SEED,
        progress=None
        if said is None
        else lambda done, total: said("rendering SIMULATED frames", done, total),
    )


def _said() -> Any:
    """Progress on standard error, one line a stage."""
    last = [""]

    def say(stage: str, done: int, total: int) -> None:
        if stage != last[0] or done == total:
            print(f"{stage}: {done} of {total}", file=sys.stderr)
            last[0] = stage

    return say


def _expectation(path: Path, *, run: Path, alpha: float, wanted: bool) -> "Expectation | None":
    from model_zoo.card import Expectation  # noqa: PLC0415
    from model_zoo.errors import DatasetError  # noqa: PLC0415
    from model_zoo.transfer import run_identity  # noqa: PLC0415

    if not wanted and not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        found = Expectation.model_validate(document["expectation"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(
            f"{path} is not what hemolink model transfer writes ({reason}): run it again"
        ) from error
    # files of releases before these two keys are taken as they are
    if document.get("run", run_identity(run)) != run_identity(run):
        raise DatasetError(
            f"{path} was measured with another run than {run}, and says nothing of this one: run hemolink model transfer --run {run} "
            "again, or move the file away"
        )
    if document.get("alpha", alpha) != alpha:
        raise DatasetError(
            f"{path} was measured with sets of --alpha {document['alpha']}, and these are of {alpha}, which refer another share: give "
            "the same --alpha to both"
        )
    return found
