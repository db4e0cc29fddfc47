"""A started package's guard on trial: against fresh simulated patients, or against a manifest."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import GuardMetrics
from model_zoo.datasets.manifest import ManifestRow, load_image, patient_groups, read_manifest
from model_zoo.engines import Outputs
from model_zoo.errors import DatasetError
from model_zoo.evaluation import REAL_STATEMENT, SIMULATED_STATEMENT
from model_zoo.guard import Evidence, Guard
from model_zoo.guard_check import Outsiders, check_guard, gather
from model_zoo.outside import INSIDE, SIMULATED_KINDS, Strange, imitated, simulated
from model_zoo.predictor import Predictor
from model_zoo.report.seen import unseen

Say = Callable[[str, int, int], None]
SIMULATED: Final = "simulated"
FEWEST: Final = 2


def from_simulator(
    predictor: Predictor,
    *,
    patients: int,
    strange: int,
    outside: Mapping[str, Sequence[NDArray[np.uint8]]],
    seed: int,
    progress: Say,
) -> GuardMetrics:
    """On fresh simulated patients, of whom some give strange frames too.

    Raises:
        DatasetError: If the package was trained on real frames: simulated ones are not inside for it.
    """
    card = predictor.package.card
    if not card.simulated:
        raise DatasetError(
            f"{card.name} was trained on real frames, so that simulated ones are outside for it: give a --manifest with frames of "
            f"its sources ({', '.join(card.training_data.sources)})"
        )
    strange = min(strange, patients)
    total = patients + strange * SIMULATED_KINDS
    frames = _counted(
        simulated(patients, seed=seed, strange=strange), "Drawing and classifying frames", total, progress
    )
    found = gather(frames, runner(predictor))
    inside = next(part for part in found if part.kind == INSIDE)
    return check_guard(
        Evidence(inside.outputs, inside.labels, inside.groups, [SIMULATED] * len(inside.labels)),
        [*(part for part in found if part.kind != INSIDE), *folders(predictor, outside, progress)],
        Guard(card.rules, predictor.detector),
        engine=predictor.engine_name,
        statement=SIMULATED_STATEMENT,
        seed=seed,
    )


def from_manifest(
    predictor: Predictor,
    manifest: Path,
    *,
    strange: int,
    outside: Mapping[str, Sequence[NDArray[np.uint8]]],
    seed: int,
    progress: Say,
) -> GuardMetrics:
    """On a manifest: labelled frames of the package's own sources are inside, those of other sources outside.

    What took part in the package's training or calibration is left out, with all others of those patients.

    Raises:
        DatasetError: If the manifest cannot be used, has an unknown label, no frame that was not seen, or fewer than two groups
            inside.
    """
    card = predictor.package.card
    rows = read_manifest(manifest, unlabelled=True)
    unknown = sorted({row.label for row in rows if row.label} - set(card.labels))
    if unknown:
        raise DatasetError(
            f"{manifest} has label(s) that this package does not know: {', '.join(unknown)}; it knows {', '.join(card.labels)}: "
            "choose another package, or leave these rows without a label"
        )
    left = unseen(rows, card)
    rows = [rows[index] for index in left.kept]
    own = set(card.training_data.sources)
    groups = patient_groups(rows)
    inside = [index for index, row in enumerate(rows) if row.label and row.source in own]
    if len(set(groups[inside].tolist())) < FEWEST:
        raise DatasetError(
            f"{manifest} has fewer than {FEWEST} groups of labelled frames from the package's own sources ({', '.join(sorted(own))}): "
            "nothing can be compared; hemolink model evaluate still reports what it does on them"
        )
    run, within_reach = runner(predictor), set(inside)
    title = "Reading and classifying frames"
    frames = (
        Strange(
            INSIDE if index in within_reach else f"frames of {row.source or 'no named source'}",
            load_image(row),
            card.labels.index(row.label) if row.label else -1,
            int(groups[index]),
        )
        for index, row in enumerate(rows)
    )
    found = gather(_counted(frames, title, len(rows), progress), run)
    within = next(part for part in found if part.kind == INSIDE)
    made = imitations(
        predictor, [rows[index] for index in inside], groups[inside], strange, seed=seed, progress=progress
    )
    return check_guard(
        Evidence(within.outputs, within.labels, within.groups, [rows[index].source for index in inside]),
        [
            *made,
            *(part for part in found if part.kind != INSIDE),
            *folders(predictor, outside, progress),
        ],
        Guard(card.rules, predictor.detector),
        engine=predictor.engine_name,
        statement=" ".join(
            filter(None, (SIMULATED_STATEMENT if own == {SIMULATED} else REAL_STATEMENT, left.statement))
        ),
        seed=seed,
    )


def imitations(
    predictor: Predictor,
    rows: Sequence[ManifestRow],
    groups: NDArray[np.int64],
    count: int,
    *,
    seed: int,
    progress: Say,
) -> list[Outsiders]:
    """Answers for blank, blurred and wrongly magnified copies of some rows, no two of one group where that can be."""
    order = np.random.default_rng(seed).permutation(len(rows))
    _, first = np.unique(groups[order], return_index=True)
    rest = np.setdiff1d(np.arange(len(order)), first)
    chosen = order[np.concatenate([np.sort(first), rest])][:count].tolist()
    labels = predictor.package.labels
    images = [load_image(rows[index]) for index in chosen]
    frames = list(
        imitated(
            images,
            [labels.index(rows[index].label) if rows[index].label else -1 for index in chosen],
            groups[chosen].tolist(),
            seed=seed,
        )
    )
    return gather(
        _counted(frames, "Blank, blurred and wrongly magnified frames", len(frames), progress),
        runner(predictor),
    )


def folders(
    predictor: Predictor, outside: Mapping[str, Sequence[NDArray[np.uint8]]], progress: Say
) -> Iterator[Outsiders]:
    """Answers for frames outside, by name; each frame counts as a group of its own."""
    for kind, images in outside.items():
        frames = (Strange(kind, image, -1, number) for number, image in enumerate(images))
        yield from gather(
            _counted(frames, kind[:1].upper() + kind[1:], len(images), progress), runner(predictor)
        )


def runner(predictor: Predictor) -> Callable[[Sequence[NDArray[np.uint8]]], Outputs]:
    """From frames to outputs, no more than a batch at a time."""

    def run(images: Sequence[NDArray[np.uint8]]) -> Outputs:
        return predictor.run([predictor.prepare(image) for image in images])

    return run


def _counted(frames: Iterable[Strange], title: str, total: int, progress: Say) -> Iterator[Strange]:
    for number, frame in enumerate(frames, start=1):
        yield frame
        progress(title, number, total)
