"""The images that an audit looks at: a seeded choice, spread over groups."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from model_zoo.datasets.manifest import ManifestRow, load_image
from model_zoo.preprocessing import Preprocessing


@dataclass(frozen=True)
class Sample:
    """Images with what is known of each.

    Attributes:
        pixels: (N, 224, 224, 3) uint8 BGR, squashed as a network gets them.
        labels: (N,) class numbers.
        groups: (N,) group numbers.
        sources: (N,) source numbers.
        source_names: By source number.
        rows: (N,) indices into the manifest's rows.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    sources: NDArray[np.int64]
    source_names: tuple[str, ...]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: NDArray[np.int64]) -> Self:
        """Some of the images, in the order of `chosen`."""
        return type(self)(
            self.pixels[chosen],
            self.labels[chosen],
            self.groups[chosen],
            self.sources[chosen],
            self.source_names,
            self.rows[chosen],
        )


def spread(
    groups: NDArray[np.int64],
    strata: NDArray[np.int64],
    *,
    most: int,
    rng: np.random.Generator,
    one_a_group: bool = False,
) -> NDArray[np.int64]:
    """Choose up to `most` images of every stratum, from as many groups as there are.

    Groups are shuffled; one image of each is taken, then a second of each that has one, and so on.

    Args:
        groups: (N,) group numbers.
        strata: (N,) what must be spread evenly: classes, or sources.
        most: Images a stratum.
        rng: Where chance comes from.
        one_a_group: Take no second image of a group.

    Returns:
        Indices, ascending.
    """
    chosen: list[int] = []
    for stratum in np.unique(strata).tolist():
        members = rng.permutation(np.flatnonzero(strata == stratum))
        turn: dict[int, int] = {}
        order = np.empty(len(members), np.int64)
        for position, index in enumerate(members.tolist()):
            group = int(groups[index])
            order[position] = turn.get(group, 0)
            turn[group] = turn.get(group, 0) + 1
        ranked = members[np.argsort(order, kind="stable")]
        if one_a_group:
            ranked = ranked[np.sort(order) == 0]
        chosen += ranked[:most].tolist()
    return np.sort(np.asarray(chosen, np.int64))


def load_sample(
    rows: Sequence[ManifestRow],
    chosen: NDArray[np.int64],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    progress: Callable[[], None] | None = None,
) -> Sample:
    """Decode the chosen rows.

    Raises:
        DatasetError: If an image is missing, differs from its hash, or cannot be used.
    """
    names = tuple(sorted({row.source for row in rows}))
    pixels = []
    for index in chosen.tolist():
        pixels.append(Preprocessing().resize(load_image(rows[index])))
        if progress is not None:
            progress()
    return Sample(
        np.stack(pixels),
        labels[chosen],
        groups[chosen],
        np.asarray([names.index(rows[index].source) for index in chosen.tolist()], np.int64),
        names,
        chosen,
    )
