"""An engine's answers for the frames of a store, and for frames outside: what a package's guard is fitted to and measured on.

They are taken as they will be served: thresholds made at one precision do not quite hold at another.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_zoo.engines import Engine, Outputs
from model_zoo.errors import TrainingError
from model_zoo.guard import Evidence
from model_zoo.guard_check import Outsiders, gather
from model_zoo.optics import with_optics
from model_zoo.outside import INSIDE, Strange, imitated, simulated
from model_zoo.preprocessing import Preprocessing
from model_zoo.store import FrameStore

_BATCH: Final = 8
Progress = Callable[[str, int, int], None]


class Answers:
    """A started engine's answers."""

    def __init__(self, engine: Engine, preprocessing: Preprocessing, progress: Progress | None) -> None:
        self._engine, self._preprocessing, self._progress = engine, preprocessing, progress

    def run(self, images: Sequence[NDArray[np.uint8]]) -> Outputs:
        """Of frames, no more than a batch."""
        batch = [self._preprocessing.prepare(image) for image in images]
        return with_optics(self._engine.run(np.stack(batch)), batch, self._preprocessing)

    def of(self, stage: str, store: FrameStore, indices: NDArray[np.int64]) -> Evidence:
        """Of stored frames; without activation maps, which nothing here needs."""
        found: list[Outputs] = []
        for first in range(0, len(indices), _BATCH):
            chosen = indices[first : first + _BATCH].tolist()
            found.append(_without_maps(self.run([store.pixels[index] for index in chosen])))
            if self._progress is not None:
                self._progress(stage, first + len(chosen), len(indices))
        if not found:
            raise TrainingError(
                f"there is no {stage} frame: split the frames into training, calibration and test"
            )
        return Evidence(
            Outputs(*(np.concatenate(column) for column in zip(*found, strict=True))),
            store.labels[indices],
            store.groups[indices],
            [store.frames[index].source for index in indices.tolist()],
        )

    def outsiders(self, kind: str, images: Sequence[NDArray[np.uint8]]) -> Outsiders:
        """Of frames of one kind, each a group of its own."""
        (found,) = gather((Strange(kind, image, -1, number) for number, image in enumerate(images)), self.run)
        return found


def _without_maps(outputs: Outputs) -> Outputs:
    return Outputs(outputs.logits, outputs.features, np.zeros((len(outputs.logits), 0, 0, 0), np.float32))


def made_outsiders(
    answers: Answers, store: FrameStore, test: NDArray[np.int64], *, count: int, seed: int
) -> list[Outsiders]:
    """Blank, blurred and wrongly magnified frames: by the microscope where frames are simulated, else by changing test frames."""
    if not count:
        return []
    if store.simulated:
        frames = simulated(count, seed=seed)
    else:
        chosen = np.random.default_rng(seed).permutation(test)[:count].tolist()
        frames = imitated(
            [store.pixels[index] for index in chosen],
            store.labels[chosen].tolist(),
            store.groups[chosen].tolist(),
            seed=seed,
        )
    return [part for part in gather(frames, answers.run) if part.kind != INSIDE]
