"""Which frames of a manifest a package has seen: left out of its evaluation, with all others of their patients."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model_zoo.card import SEEN_DIGITS, Card
from model_zoo.datasets.manifest import ManifestRow, patient_groups, read_image_bytes
from model_zoo.errors import DatasetError


@dataclass(frozen=True)
class Unseen:
    """What is left of a manifest.

    Attributes:
        kept: Index of each row that may be asked about.
        seen: Frames that took part in training or calibration.
        kin: Further frames of the same patients or groups.
    """

    kept: tuple[int, ...]
    seen: int
    kin: int

    @property
    def statement(self) -> str:
        """What was left out, as a sentence; empty if nothing was."""
        if not self.seen:
            return ""
        return (
            f"{self.seen + self.kin} frames are left out of every figure: {self.seen} took part in this package's training or "
            f"calibration, and {self.kin} more are of the same patients or groups."
        )


def unseen(rows: Sequence[ManifestRow], card: Card) -> Unseen:
    """Return what a package may be evaluated on.

    Args:
        rows: Of a manifest.
        card: Its package's card, which names the images of training and calibration by their hashes.

    Raises:
        DatasetError: If no labelled row is left, or a file cannot be read.
    """
    known = frozenset(card.training_data.seen)
    if not known or not rows:
        return Unseen(tuple(range(len(rows))), 0, 0)
    seen = np.asarray([_digest(row) in known for row in rows])
    groups = patient_groups(list(rows))
    away = np.isin(groups, np.unique(groups[seen])) if seen.any() else seen
    kept = tuple(int(index) for index in np.flatnonzero(~away))
    if not any(rows[index].label for index in kept):
        raise DatasetError(
            "every labelled frame of the manifest, or another of its patient, took part in this package's training or "
            "calibration, so that nothing could be learnt of it: evaluate on frames that it has not seen"
        )
    return Unseen(kept, int(seen.sum()), int((away & ~seen).sum()))


def _digest(row: ManifestRow) -> str:
    return (row.sha256 or hashlib.sha256(read_image_bytes(row)).hexdigest())[:SEEN_DIGITS]
