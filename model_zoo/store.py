"""Frames prepared for training: decoded once, squashed to the input size, and mapped from disk."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from model_zoo.datasets.manifest import ManifestRow, load_image, patient_groups, read_image_bytes
from model_zoo.datasets.split import Split, split_by_group
from model_zoo.errors import DatasetError
from model_zoo.labels import LABELS
from model_zoo.preprocessing import Preprocessing

PIXELS_FILE: Final = "frames.u8"
INDEX_FILE: Final = "frames.json"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class StoredCell:
    """A white cell of known kind, its centre in pixels of the stored frame (which it may lie outside)."""

    kind: str
    x: float
    y: float


@dataclass(frozen=True)
class StoredFrame:
    """What is known of one stored frame.

    Attributes:
        label: Class number; -1 where none is known.
        patient: Patient as the source calls it.
        group: Patient group number.
        aspect: Width over height of a stored pixel in the tissue (4/3 for a squashed 640 x 480 frame).
        source: Where it comes from.
        name: File name, or empty.
        cells: White cells of known kind; empty where nobody marked any.
        subtype: As its manifest has it, or empty.
        sha256: Of its file, or empty where it was drawn and never was one.
    """

    label: int
    patient: str
    group: int
    aspect: float
    source: str
    name: str = ""
    cells: tuple[StoredCell, ...] = ()
    subtype: str = ""
    sha256: str = ""


class FrameStore:
    """Frames (N, H, W, 3) of uint8 BGR, mapped from disk, with what is known of each."""

    def __init__(self, pixels: NDArray[np.uint8], frames: list[StoredFrame], *, origin: str = "") -> None:
        """Wrap frames already in memory or mapped; `write` and `open` are the usual ways in."""
        self.pixels = pixels
        self.origin = origin
        self.frames = frames
        self.labels: NDArray[np.int64] = np.asarray([frame.label for frame in frames], np.int64)
        self.groups: NDArray[np.int64] = np.asarray([frame.group for frame in frames], np.int64)

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def every(self) -> NDArray[np.int64]:
        """(N,) index of each frame."""
        return np.arange(len(self), dtype=np.int64)

    @property
    def sources(self) -> list[str]:
        """Source of each frame."""
        return [frame.source for frame in self.frames]

    @property
    def simulated(self) -> bool:
        """Whether any frame is simulated."""
        return any(frame.source.startswith("simulated") for frame in self.frames)

    @property
    def kinds(self) -> list[str]:
        """The kinds of white cell that occur, sorted."""
        return sorted({cell.kind for frame in self.frames for cell in frame.cells})

    def split(
        self, *, fractions: tuple[float, float, float], seed: int, leave_out: Sequence[str] = ()
    ) -> Split:
        """Deal whole patient groups to the three parts, stratified by class and source.

        Args:
            fractions: Shares of the groups for train, calibration and test.
            seed: Of the shuffle.
            leave_out: Sources whose frames go to no part, nor frames of other sources in a group with one of them.

        Raises:
            DatasetError: If there is no such source, or what is left cannot be split.
        """
        strange = sorted(set(leave_out) - set(self.sources))
        if strange:
            raise DatasetError(
                f"no frame comes from {', '.join(strange)}: the sources are {', '.join(sorted(set(self.sources)))}"
            )
        sources = self.sources
        # A copy that another source has would bring the source that is left out back in.
        seen = np.unique(self.groups[np.isin(sources, list(leave_out))])
        kept = np.flatnonzero(~np.isin(self.groups, seen) & (self.labels >= 0))
        if not len(kept):
            raise DatasetError("no frame is left to train on: leave fewer sources out")
        parts = split_by_group(
            self.labels[kept],
            self.groups[kept],
            fractions=fractions,
            seed=seed,
            sources=[sources[index] for index in kept.tolist()],
        )
        return Split(kept[parts.train], kept[parts.calibration], kept[parts.test])

    @classmethod
    def write(
        cls,
        folder: Path,
        items: Iterable[tuple[NDArray[np.uint8], StoredFrame]],
        *,
        total: int,
        origin: str = "",
        progress: Progress | None = None,
    ) -> Self:
        """Write frames one by one, then the index; without the index the folder counts as unfinished.

        Args:
            folder: Made if missing; its earlier content is replaced.
            items: Frames already squashed, all of one size, each with what is known of it.
            total: How many there will be, for the progress.
            origin: What the frames were made of, so that a store of something else is not taken for it.
            progress: Called with frames done and total.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / INDEX_FILE).unlink(missing_ok=True)
        frames: list[StoredFrame] = []
        shape: tuple[int, ...] = ()
        with (folder / PIXELS_FILE).open("wb") as file:
            for image, frame in items:
                shape = image.shape
                file.write(np.ascontiguousarray(image).tobytes())
                frames.append(frame)
                if progress is not None:
                    progress(len(frames), total)
        index = {
            "height": shape[0],
            "width": shape[1],
            "labels": LABELS,
            "origin": origin,
            "frames": [asdict(frame) for frame in frames],
        }
        temporary = folder / f"{INDEX_FILE}.partial"
        temporary.write_text(json.dumps(index), encoding="utf-8")
        temporary.rename(folder / INDEX_FILE)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map a store from disk.

        Raises:
            DatasetError: If it is missing, unfinished or of other labels.
        """
        try:
            index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise DatasetError(f"{folder} holds no finished frame store: build it again") from error
        if tuple(index["labels"]) != LABELS:
            raise DatasetError(
                f"{folder} has the labels {index['labels']}, not {list(LABELS)}: build it again"
            )
        frames = [
            StoredFrame(**{**raw, "cells": tuple(StoredCell(**cell) for cell in raw["cells"])})
            for raw in index["frames"]
        ]
        shape = (len(frames), index["height"], index["width"], 3)
        pixels = np.memmap(folder / PIXELS_FILE, np.uint8, mode="r", shape=shape)
        return cls(pixels, frames, origin=index.get("origin", ""))

    @classmethod
    def from_manifest(
        cls,
        rows: list[ManifestRow],
        folder: Path,
        *,
        preprocessing: Preprocessing,
        progress: Progress | None = None,
    ) -> Self:
        """Decode every image of a manifest into a store.

        Raises:
            DatasetError: If an image is missing, differs from its hash, or cannot be used.
        """
        return cls.write(
            folder,
            _decoded(rows, preprocessing),
            total=len(rows),
            origin=manifest_origin(rows),
            progress=progress,
        )


def manifest_origin(rows: Sequence[ManifestRow]) -> str:
    """What a store of these rows is made of: a hash of all that it keeps of them."""
    told = [
        [row.path.name, row.label, row.patient, row.group, row.parent, row.source, row.sha256] for row in rows
    ]
    return f"manifest {hashlib.sha256(json.dumps(told).encode()).hexdigest()}"


def merged(folder: Path, stores: Sequence[FrameStore], chosen: Sequence[NDArray[np.int64]]) -> FrameStore:
    """Write chosen frames of several stores into one. Groups keep their numbers: a merged store is not to be split.

    Args:
        folder: Of the new store.
        stores: The stores.
        chosen: Of each, the indices of the frames to take.
    """
    items = (
        (np.asarray(store.pixels[index]), store.frames[index])
        for store, indices in zip(stores, chosen, strict=True)
        for index in indices.tolist()
    )
    return FrameStore.write(folder, items, total=sum(map(len, chosen)))


def _decoded(
    rows: list[ManifestRow], preprocessing: Preprocessing
) -> Iterator[tuple[NDArray[np.uint8], StoredFrame]]:
    groups = patient_groups(rows)
    for row, group in zip(rows, groups, strict=True):
        image = load_image(row)
        height, width = image.shape[:2]
        yield (
            preprocessing.resize(image),
            StoredFrame(
                label=LABELS.index(row.label) if row.label else -1,
                patient=row.patient,
                group=int(group),
                aspect=(width / preprocessing.width) / (height / preprocessing.height),
                source=row.source,
                name=row.path.name,
                subtype=row.subtype,
                sha256=row.sha256 or hashlib.sha256(read_image_bytes(row)).hexdigest(),
            ),
        )
