"""Splits by patient group, stratified by class; a split that divides a group is refused."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_zoo.errors import DatasetError

PARTS: Final = ("train", "calibration", "test")


@dataclass(frozen=True)
class Split:
    """Indices of the images of each part, each (n,) int64, in ascending order."""

    train: NDArray[np.int64]
    calibration: NDArray[np.int64]
    test: NDArray[np.int64]

    def check(self, groups: NDArray[np.int64]) -> None:
        """Refuse a split that divides a group or uses an image twice.

        Args:
            groups: (N,) group number of every image.

        Raises:
            DatasetError: If a group has images in two parts, or an image is in two parts.
        """
        owner: dict[int, str] = {}
        for part in PARTS:
            for group in np.unique(groups[getattr(self, part)]).tolist():
                if group in owner:
                    raise DatasetError(
                        f"the split divides patient group {group} between {owner[group]} and {part}: "
                        "split by group, or the figures measure memory"
                    )
                owner[group] = part


def split_by_group(
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    seed: int = 0,
) -> Split:
    """Deal whole groups to train, calibration and test, class by class.

    A group counts as the class that most of its images have.

    Args:
        labels: (N,) class number of every image.
        groups: (N,) group number of every image.
        fractions: Share of the groups of every class for train, calibration and test; they sum to 1.
        seed: Of the shuffle.

    Raises:
        DatasetError: If the fractions do not sum to 1, or a class has fewer than three groups.
    """
    if abs(sum(fractions) - 1) > 1e-6 or min(fractions) < 0:  # noqa: PLR2004
        raise DatasetError(f"the fractions {fractions} must be positive and sum to 1")
    rng = np.random.default_rng(seed)
    part_of: dict[int, int] = {}
    majority = {int(g): int(np.bincount(labels[groups == g]).argmax()) for g in np.unique(groups)}
    for label in sorted(set(majority.values())):
        members = np.asarray([g for g, own in majority.items() if own == label])
        if len(members) < len(PARTS):
            raise DatasetError(
                f"class {label} has {len(members)} patient group(s), and a split needs one in each of "
                f"{', '.join(PARTS)}: add patients"
            )
        rng.shuffle(members)
        calibration = max(1, round(fractions[1] * len(members)))
        test = max(1, round(fractions[2] * len(members)))
        for position, group in enumerate(members):
            part_of[int(group)] = 1 if position < calibration else 2 if position < calibration + test else 0
    parts = np.asarray([part_of[int(group)] for group in groups])
    split = Split(*(np.flatnonzero(parts == number) for number in range(3)))
    split.check(groups)
    return split
