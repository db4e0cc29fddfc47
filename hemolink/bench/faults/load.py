"""The load: pictures put into the edges' watched folders at a steady rate, each of them written down."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hemolink.bench.faults.pictures import Album, Sort

_BLANK_EVERY = 40


@dataclass(frozen=True)
class Given:
    """One picture that was given to an edge: the harness's own truth.

    Attributes:
        number: Unique in the run, also drawn into the pixels.
        edge: Name of the edge.
        file: Name of the file in its folder.
        sort: What is special about it.
        sha256: Hash of the file.
        at_s: Seconds since the run's start.
    """

    number: int
    edge: str
    file: str
    sort: Sort
    sha256: str
    at_s: float


class Load:
    """Gives pictures to the edges in turn.

    Args:
        album: Where pictures come from, drawn.
        folders: Watched folder of each edge, by its name.
        per_s: Pictures a second, all edges together.
    """

    def __init__(self, album: Album, folders: Mapping[str, Path], *, per_s: float) -> None:
        self._album = album
        self._folders = dict(folders)
        self._edges: Sequence[str] = tuple(folders)
        self._per_s = per_s
        self._steady = 0
        self.given: list[Given] = []

    def tend(self, elapsed_s: float) -> None:
        """Give what is due by now."""
        while self._steady < elapsed_s * self._per_s:
            edge = self._edges[self._steady % len(self._edges)]
            self._steady += 1
            self.give(edge, at_s=elapsed_s, sort="plain" if self._steady % _BLANK_EVERY else "blank")

    def give(self, edge: str, *, at_s: float, sort: Sort = "plain") -> Given:
        """Put one picture into an edge's folder, whole or not at all, as a microscope's own program would."""
        number = len(self.given)
        picture = self._album.picture(number, sort=sort)
        folder = self._folders[edge]
        name = f"f{number:06d}{picture.suffix}"
        hidden = folder / f".{name}"
        hidden.write_bytes(picture.data)
        os.rename(hidden, folder / name)  # noqa: PTH104 - atomic, and said so
        given = Given(number, edge, name, sort, picture.sha256, round(at_s, 2))
        self.given.append(given)
        return given
