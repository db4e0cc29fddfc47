"""`hemolink model distil`: give a network the features of another as a start."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from model_zoo.command_errors import clear_errors

if TYPE_CHECKING:
    from model_zoo.store import FrameStore

FOLDER: Final = "distillation"


@click.command()
@click.option(
    "--teacher",
    "run",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder of a finished training run: its network teaches, on the frames that it was trained on.",
)
@click.option("--architecture", default="resnet34", show_default=True, help="Of the student.")
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What the student starts from; random weights otherwise.",
)
@click.option(
    "--unlabelled",
    type=click.Path(exists=True, path_type=Path),
    help="A manifest whose frames without a label are looked at too.",
)
@click.option(
    "--patients",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    help="Simulated patients, two fields each.",
)
@click.option("--epochs", type=click.IntRange(1), default=6, show_default=True, help="Epochs.")
@click.option("--samples", type=click.IntRange(32), default=3200, show_default=True, help="Frames an epoch.")
@click.option(
    "--size", type=click.IntRange(32, 448), default=128, show_default=True, help="Side of the input."
)
@click.option("--seed", type=click.IntRange(0), default=20260711, show_default=True, help="Of everything.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The safetensors file to write, for hemolink model train --weights.",
)
@click.option("--json", "as_json", is_flag=True, help="End with one JSON document on standard output.")
def distil(
    *,
    run: Path,
    architecture: str,
    weights: Path | None,
    unlabelled: Path | None,
    patients: int,
    epochs: int,
    samples: int,
    size: int,
    seed: int,
    out: Path,
    as_json: bool,
) -> None:
    """Teach a network the features of a trained run's network.

    For networks whose ImageNet weights cannot be had. Only frames of the run's training groups are looked at, beside frames
    without a label and simulated ones, so that figures on the run's test groups stay honest.
    """
    from model_zoo.architecture import SmearNetwork, load_pretrained  # noqa: PLC0415
    from model_zoo.distillation import DistillationSettings, distil, save_body  # noqa: PLC0415
    from model_zoo.packaging import load_run  # noqa: PLC0415

    with clear_errors():
        teacher, _, notes = load_run(run)
        student = SmearNetwork(architecture)
        start = load_pretrained(student, weights) if weights else "random weights"
        store = _frames(run, unlabelled, patients=patients, seed=seed)
        history = distil(
            teacher,
            student,
            store,
            store.every,
            settings=DistillationSettings(epochs=epochs, samples=samples, size=size, seed=seed),
            report=lambda entry: click.echo(
                "  ".join(f"{key} {value}" for key, value in entry.items()), err=True
            ),
        )
        origin = (
            f"features of {notes['architecture']} ({notes['initial_weights']}) distilled on {len(store)} frames"
            f"{', some SIMULATED' if store.simulated else ''}, from {start}"
        )
        save_body(student, out, origin=origin)
    if as_json:
        click.echo(json.dumps({"path": str(out), "origin": origin, "frames": len(store), "history": history}))
    else:
        click.echo(f"{out}: {origin}")
        click.echo(
            f"next: hemolink model train --architecture {architecture} --weights {out} --data MANIFEST --run DIR"
        )


def _frames(run: Path, unlabelled: Path | None, *, patients: int, seed: int) -> "FrameStore":
    """Training frames of the run, frames without a label, and simulated ones, in one store."""
    from model_zoo.datasets.manifest import read_manifest  # noqa: PLC0415
    from model_zoo.packaging import load_run  # noqa: PLC0415
    from model_zoo.preprocessing import Preprocessing  # noqa: PLC0415
    from model_zoo.simulated import render_store  # noqa: PLC0415
    from model_zoo.store import FrameStore, merged  # noqa: PLC0415
    from model_zoo.training_commands import FRAMES  # noqa: PLC0415

    folder = run / FOLDER
    own = FrameStore.open(run / FRAMES)
    parts: list[FrameStore] = [own]
    chosen = [load_run(run)[1].train]
    if unlabelled is not None:
        rows = [row for row in read_manifest(unlabelled, unlabelled=True) if not row.label]
        if rows:
            parts.append(FrameStore.from_manifest(rows, folder / "unlabelled", preprocessing=Preprocessing()))
            chosen.append(parts[-1].every)
    if patients:
        parts.append(render_store(folder / "simulated", patients=max(15, patients), frames=2, seed=seed))
        chosen.append(parts[-1].every)
    return merged(folder / "frames", parts, chosen)
