"""The images that a study starts from: chosen, decoded, squashed to the recipe's size; and copies of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.audit.sample import spread
from model_zoo.augmentation import Augmentation
from model_zoo.datasets.manifest import ManifestRow, load_image, patient_groups
from model_zoo.errors import DatasetError
from model_zoo.labels import LABELS
from model_zoo.preprocessing import Preprocessing

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Originals:
    """Images before augmentation.

    Attributes:
        pixels: (N, S, S, 3) uint8 BGR.
        aspect: (N,) width over height of a pixel in the tissue.
        labels: (N,) class numbers.
        groups: (N,) group numbers.
        sources: (N,) where each comes from.
        paths: (N,) of the files.
    """

    pixels: NDArray[np.uint8]
    aspect: NDArray[np.float64]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    sources: tuple[str, ...]
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def simulated(self) -> bool:
        """Whether any is simulated."""
        return any(source.startswith("simulated") for source in self.sources)

    @classmethod
    def load(
        cls,
        rows: Sequence[ManifestRow],
        chosen: NDArray[np.int64],
        *,
        size: int,
        progress: Progress | None = None,
    ) -> Self:
        """Decode the chosen rows.

        Raises:
            DatasetError: If an image is missing, differs from its hash, or cannot be used.
        """
        squash = Preprocessing(width=size, height=size)
        pixels, aspect = [], []
        for number, index in enumerate(chosen.tolist()):
            image = load_image(rows[index])
            pixels.append(squash.resize(image))
            aspect.append(image.shape[1] / image.shape[0])
            if progress is not None:
                progress("Reading", number + 1, len(chosen))
        own = [rows[index] for index in chosen.tolist()]
        return cls(
            np.stack(pixels),
            np.asarray(aspect),
            np.asarray([LABELS.index(row.label) for row in own], np.int64),
            patient_groups(rows)[chosen],
            tuple(row.source for row in own),
            tuple(str(row.path) for row in own),
        )

    def with_random_labels(self, seed: int) -> Self:
        """The same images; each group has a label drawn at random, whatever the others have."""
        names, own = np.unique(self.groups, return_inverse=True)
        drawn = np.random.default_rng([seed, 12]).integers(0, len(LABELS), len(names))
        return replace(self, labels=drawn[own].astype(np.int64))

    def varied(self, index: int, copy: int, augmentation: Augmentation, *, seed: int) -> NDArray[np.uint8]:
        """A copy (S, S, 3) of an original; copy 0 is the original itself."""
        image: NDArray[np.uint8] = self.pixels[index]
        if copy == 0:
            return image
        size = image.shape[0]
        matrix = augmentation.matrix(
            np.random.default_rng([seed, index, copy]),
            source=(size / 2, size / 2),
            size=size,
            extent=(size, size),
            aspect=float(self.aspect[index]),
        )
        return np.asarray(
            cv2.warpAffine(
                image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
            ),
            np.uint8,
        )


def choose(
    rows: Sequence[ManifestRow],
    *,
    originals: dict[str, int] | None,
    seed: int,
    one_a_group: bool = False,
) -> NDArray[np.int64]:
    """Choose rows, as many of each class as the study had, spread over groups.

    Args:
        rows: Labelled rows.
        originals: At most so many of each class; None for all.
        seed: Of the choice.
        one_a_group: Take no second image of a group.
    """
    labels = np.asarray([LABELS.index(row.label) for row in rows], np.int64)
    groups = patient_groups(rows)
    rng = np.random.default_rng([seed, 13])
    chosen = []
    for number in np.unique(labels).tolist():
        own = np.flatnonzero(labels == number)
        most = originals[LABELS[number]] if originals else len(own)
        nothing = np.zeros(len(own), np.int64)
        chosen.append(own[spread(groups[own], nothing, most=most, rng=rng, one_a_group=one_a_group)])
    return np.sort(np.concatenate(chosen))


def check_fresh(rows: Sequence[ManifestRow], fresh: Sequence[ManifestRow]) -> None:
    """Refuse fresh images that are tied to the others.

    Raises:
        DatasetError: If they share a group, a patient or a file.
    """
    groups = patient_groups([*rows, *fresh])
    shared = np.intersect1d(groups[: len(rows)], groups[len(rows) :])
    if len(shared):
        first = next(row for row, group in zip(fresh, groups[len(rows) :], strict=True) if group == shared[0])
        raise DatasetError(
            f"{len(shared)} group(s) are among the fresh images and among the others (first: {first.path.name}): fresh "
            "images must be of patients that no protocol has seen"
        )
