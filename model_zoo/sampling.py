"""Batches for training: whole fields, or crops around single cells of known kind, drawn afresh and in balance.

Every epoch's draw follows from (seed, stage, epoch) alone, so that a resumed run sees what the unbroken one would have.
"""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_zoo.augmentation import Augmentation
from model_zoo.preprocessing import Preprocessing
from model_zoo.store import FrameStore

STRIDE = 32
"""Input pixels to one place of the last feature map."""


@dataclass(frozen=True)
class Batch:
    """One training batch.

    Attributes:
        images: (N, 3, S, S) float32, normalised.
        labels: (N,) class numbers; -1 for crops of single cells.
        kinds: (N, K + 1, S/32, S/32) soft targets of the auxiliary head by place, last channel "no white cell"; for
            crops (N, K + 1, 1, 1). None where no cell is marked.
        indices: (N,) which frames of the store these are; for crops, the frames that they were cut from.
    """

    images: Tensor
    labels: Tensor
    kinds: Tensor | None
    indices: NDArray[np.int64]


class FieldSampler:
    """Draws whole fields, the classes in balance, and within a class its sources."""

    def __init__(
        self,
        store: FrameStore,
        indices: NDArray[np.int64],
        *,
        size: int,
        augmentation: Augmentation,
        preprocessing: Preprocessing,
        kinds: list[str],
    ) -> None:
        self._store, self._indices, self._size = store, indices, size
        self._augmentation, self._preprocessing = augmentation, preprocessing
        self._kinds = {kind: number for number, kind in enumerate(kinds)}

    def order(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw frames: each class equally often, each source of a class, and each frame of a source."""
        labels = self._store.labels[self._indices]
        sources = np.asarray([self._store.frames[index].source for index in self._indices.tolist()])
        present = np.unique(labels)
        share = -(-count // len(present))
        columns = []
        for label in present:
            own = self._indices[labels == label]
            places = sources[labels == label]
            columns.append(_dealt([own[places == place] for place in np.unique(places)], share, rng))
        return np.stack(columns, axis=1).ravel()[:count]

    def batch(self, chosen: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        """Augment and stack frames."""
        images, targets = [], []
        for index in chosen.tolist():
            frame, pixels = self._store.frames[index], self._store.pixels[index]
            height, width = pixels.shape[:2]
            matrix = self._augmentation.matrix(
                rng,
                source=(width / 2, height / 2),
                size=self._size,
                extent=(width, height),
                aspect=frame.aspect,
            )
            image = _warp(pixels, matrix, self._size)
            donor = self._store.pixels[rng.choice(self._indices)] if self._augmentation.exchange else None
            image = self._augmentation.recolour(image, rng, donor=donor)
            images.append(self._preprocessing.normalise(image))
            if self._kinds:
                points = [
                    (self._kinds[cell.kind], cell.x, cell.y)
                    for cell in frame.cells
                    if cell.kind in self._kinds
                ]
                targets.append(
                    grid_targets(points, matrix, places=self._size // STRIDE, kinds=len(self._kinds))
                )
        return Batch(
            torch.from_numpy(np.stack(images)),
            torch.from_numpy(self._store.labels[chosen]),
            torch.from_numpy(np.stack(targets)) if targets else None,
            chosen,
        )


class CellSampler:
    """Draws crops around white cells, rare kinds more often than they occur, and some crops of no white cell."""

    def __init__(
        self,
        store: FrameStore,
        indices: NDArray[np.int64],
        *,
        size: int,
        augmentation: Augmentation,
        preprocessing: Preprocessing,
        kinds: list[str],
    ) -> None:
        self._store, self._size = store, size
        self._augmentation, self._preprocessing = augmentation, preprocessing
        self._kind_count = len(kinds)
        number = {kind: position for position, kind in enumerate(kinds)}
        height, width = store.pixels.shape[1:3]
        cells = [
            (index, number[cell.kind], cell.x, cell.y)
            for index in indices.tolist()
            for cell in store.frames[index].cells
            if 0 <= cell.x < width and 0 <= cell.y < height
        ]
        self._cells = np.asarray(cells, np.float64).reshape(-1, 4)
        counts = np.bincount(self._cells[:, 1].astype(int), minlength=len(kinds))
        weights = 1 / np.sqrt(np.maximum(counts, 1))[self._cells[:, 1].astype(int)]
        self._weights = weights / weights.sum()

    def order(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw cells."""
        return rng.choice(len(self._cells), size=count, p=self._weights)

    def batch(self, chosen: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        """Cut, augment and stack crops."""
        images = []
        targets = np.zeros((len(chosen), self._kind_count + 1, 1, 1), np.float32)
        for row, cell in enumerate(chosen.tolist()):
            index, kind, x, y = self._cells[cell]
            frame, pixels = self._store.frames[int(index)], self._store.pixels[int(index)]
            target = int(kind)
            if rng.random() < 0.06:  # noqa: PLR2004
                x, y, target = *self._empty_place(int(index), rng, fallback=(x, y)), self._kind_count
                target = int(kind) if (x, y) == tuple(self._cells[cell][2:]) else target
            matrix = self._augmentation.matrix(
                rng, source=(x, y), size=self._size, extent=(self._size, self._size), aspect=frame.aspect
            )
            image = _warp(pixels, matrix, self._size)
            images.append(self._preprocessing.normalise(self._augmentation.recolour(image, rng)))
            targets[row, target] = 1
        return Batch(
            torch.from_numpy(np.stack(images)),
            torch.full((len(chosen),), -1, dtype=torch.int64),
            torch.from_numpy(targets),
            self._cells[chosen, 0].astype(np.int64),
        )

    def _empty_place(
        self, index: int, rng: np.random.Generator, *, fallback: tuple[float, float]
    ) -> tuple[float, float]:
        height, width = self._store.pixels.shape[1:3]
        centres = np.asarray([(cell.x, cell.y) for cell in self._store.frames[index].cells])
        for _ in range(8):
            x, y = rng.uniform(0, width), rng.uniform(0, height)
            if np.abs(centres - (x, y)).max(axis=1).min() > 0.6 * self._size:
                return x, y
        return fallback


def _dealt(parts: list[NDArray[np.int64]], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw from parts in turn, from each in rounds that use every member once."""
    share = -(-count // len(parts))
    columns = []
    for part in parts:
        rounds = [rng.permutation(part) for _ in range(-(-share // len(part)))]
        columns.append(np.concatenate(rounds)[:share])
    return np.stack(columns, axis=1).ravel()[:count]


def grid_targets(
    points: list[tuple[int, float, float]], matrix: NDArray[np.float64], *, places: int, kinds: int
) -> NDArray[np.float32]:
    """Spread each cell's kind over the four nearest places of the last feature map.

    Returns:
        (kinds + 1, places, places) float32; at each place the shares of the kinds, the rest in the last channel.
    """
    target = np.zeros((kinds + 1, places, places), np.float32)
    for kind, x, y in points:
        u, v = matrix @ (x, y, 1.0) / STRIDE - 0.5 + 0.5 / STRIDE
        left, top = int(np.floor(u)), int(np.floor(v))
        for column, across in ((left, 1 - (u - left)), (left + 1, u - left)):
            for row, down in ((top, 1 - (v - top)), (top + 1, v - top)):
                if 0 <= column < places and 0 <= row < places:
                    target[kind, row, column] += across * down
    total = target.sum(axis=0)
    target /= np.maximum(total, 1)
    target[kinds] = 1 - target.sum(axis=0)
    return target


def prefetched(
    sampler: FieldSampler | CellSampler, *, count: int, batch_size: int, seed: tuple[int, ...], depth: int = 3
) -> Iterator[Batch]:
    """Make one epoch's batches in a thread ahead of the training loop.

    OpenCV and numpy release the interpreter for most of the work, so one thread suffices; if the loop ends early, the
    thread ends too.
    """
    rng = np.random.default_rng(seed)
    order = sampler.order(count, rng)
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: Batch | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def produce() -> None:
        try:
            for first in range(0, count - batch_size + 1, batch_size):
                if not put(sampler.batch(order[first : first + batch_size], rng)):
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, which raises it
            put(error)

    thread = threading.Thread(target=produce, name="batches", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()


def _warp(pixels: NDArray[np.uint8], matrix: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    whole = np.round(matrix[:, 2]) if np.allclose(np.abs(matrix[:, :2]), np.eye(2)) else None
    if whole is not None:  # flips and shifts by whole pixels need no interpolation
        matrix = np.column_stack([matrix[:, :2], whole])
    return np.asarray(
        cv2.warpAffine(
            pixels,
            matrix,
            (size, size),
            flags=cv2.INTER_NEAREST if whole is not None else cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        ),
        np.uint8,
    )
