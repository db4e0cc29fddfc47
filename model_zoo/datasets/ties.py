"""What must stay together, and why: union of images by ties, each tie kept for the report."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["same patient", "same group", "same parent", "parent", "same bytes", "near-duplicate", "copy"]


@dataclass(frozen=True)
class Tie:
    """Why two images are in one group.

    Attributes:
        first: Index of an image.
        second: Index of another.
        kind: What ties them.
        detail: The patient, parent or figures behind it.
    """

    first: int
    second: int
    kind: Kind
    detail: str = ""


class Groups:
    """A partition of N images that ties make coarser."""

    def __init__(self, count: int) -> None:
        self._leaders = list(range(count))

    def _leader(self, index: int) -> int:
        while self._leaders[index] != index:
            self._leaders[index] = self._leaders[self._leaders[index]]
            index = self._leaders[index]
        return index

    def unite(self, first: int, second: int) -> None:
        """Put two images, and all that is tied to either, in one group."""
        one, other = self._leader(first), self._leader(second)
        self._leaders[max(one, other)] = min(one, other)

    def numbers(self) -> NDArray[np.int64]:
        """The group of each image: (N,) int64, from 0, in order of first appearance."""
        numbers: dict[int, int] = {}
        return np.asarray(
            [numbers.setdefault(self._leader(index), len(numbers)) for index in range(len(self._leaders))],
            np.int64,
        )


def chained(keys: Iterable[str], kind: Kind) -> list[Tie]:
    """Tie each image to the one before it that has the same key; empty keys tie nothing."""
    last: dict[str, int] = {}
    ties = []
    for index, key in enumerate(keys):
        if key and key in last:
            ties.append(Tie(last[key], index, kind, key.replace("\0", "/")))
        if key:
            last[key] = index
    return ties


def united(count: int, ties: Iterable[Tie]) -> NDArray[np.int64]:
    """Group numbers of `count` images after every tie: (N,) int64, in order of first appearance."""
    groups = Groups(count)
    for tie in ties:
        groups.unite(tie.first, tie.second)
    return groups.numbers()
