"""A package's answers for every frame of a manifest."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_zoo.datasets.manifest import ManifestRow, load_image, manifest_path, patient_groups, read_manifest
from model_zoo.engines import Outputs
from model_zoo.errors import DatasetError
from model_zoo.predictor import Prediction, Predictor, calibrated, interpret

UNNAMED = "not stated"


@dataclass(frozen=True)
class Answers:
    """What a package says of N frames.

    Attributes:
        rows: The frames.
        sites: (N,) where each was taken, as the manifest's column `site` has it; empty strings without one.
        classes: The package's labels.
        labels: (N,) true class numbers; -1 where the manifest states none.
        groups: (N,) group numbers.
        outputs: The network's raw answers.
        probabilities: (N, C), calibrated.
        predictions: What is made of them.
    """

    rows: Sequence[ManifestRow]
    sites: Sequence[str]
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    outputs: Outputs
    probabilities: NDArray[np.float64]
    predictions: Sequence[Prediction]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(N,) the most probable class."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def reported(self) -> NDArray[np.bool_]:
        """(N,) whether the frame is reported; it is referred to a person otherwise."""
        return np.asarray([answer.decision == "report" for answer in self.predictions], np.bool_)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(N,) whether the truth is known."""
        return np.asarray(self.labels >= 0, np.bool_)

    @property
    def sources(self) -> list[str]:
        """Source of each frame."""
        return [row.source or UNNAMED for row in self.rows]

    @property
    def simulated(self) -> NDArray[np.bool_]:
        """(N,) whether the frame was drawn by the simulator."""
        return np.asarray([row.source.startswith("simulated") for row in self.rows], np.bool_)

    def taken(self, chosen: NDArray[np.bool_]) -> "Answers":
        """The same of some frames only."""
        where = np.flatnonzero(chosen).tolist()
        return Answers(
            rows=[self.rows[index] for index in where],
            sites=[self.sites[index] for index in where],
            classes=self.classes,
            labels=self.labels[where],
            groups=self.groups[where],
            outputs=Outputs(*(column[where] for column in self.outputs)),
            probabilities=self.probabilities[where],
            predictions=[self.predictions[index] for index in where],
        )


def read_rows(manifest: Path, classes: tuple[str, ...]) -> tuple[list[ManifestRow], list[str]]:
    """Rows of a manifest, unlabelled ones too, and the site of each.

    Raises:
        DatasetError: If the manifest cannot be used, has no labelled row, or a label that the package does not know.
    """
    rows = read_manifest(manifest, unlabelled=True)
    strange = sorted({row.label for row in rows if row.label and row.label not in classes})
    if strange:
        raise DatasetError(
            f"{manifest} has label(s) that this package does not know: {', '.join(strange)}; it knows "
            f"{', '.join(classes)}: choose another package, or leave these rows without a label"
        )
    path = manifest_path(manifest)
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(line for line in file if not line.startswith("#"))
        stated = {path.parent / row["path"]: row.get("site") or "" for row in reader}
    return rows, [stated.get(row.path, "") for row in rows]


def answer(
    predictor: Predictor,
    rows: Sequence[ManifestRow],
    sites: Sequence[str],
    *,
    progress: Callable[[str, int, int], None],
) -> Answers:
    """Run a started predictor over a manifest's frames.

    Raises:
        DatasetError: If a frame cannot be read, or is not what the manifest says.
    """
    found, batch = [], []
    for number, row in enumerate(rows, start=1):
        batch.append(predictor.prepare(load_image(row)))
        if len(batch) == predictor.max_batch_size or number == len(rows):
            found.append(predictor.run(batch))
            batch = []
        progress("Reading and classifying frames", number, len(rows))
    outputs = Outputs(*(np.concatenate(column) for column in zip(*found, strict=True)))
    card = predictor.package.card
    return Answers(
        rows=rows,
        sites=sites,
        classes=card.labels,
        labels=np.asarray([card.labels.index(row.label) if row.label else -1 for row in rows], np.int64),
        groups=patient_groups(rows),
        outputs=outputs,
        probabilities=calibrated(outputs.logits, card.calibration.temperature, trained=card.trained),
        predictions=interpret(outputs, card.rules, predictor.detector),
    )
