"""Frames of simulated patients, rendered straight into a store, with the truth about every white cell."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.labels import LABELS
from model_zoo.preprocessing import Preprocessing
from model_zoo.store import FrameStore, Progress, StoredCell, StoredFrame
from smear_simulator import Field, Microscope, population

SOURCE: Final = "simulated"
_NOT_WHITE: Final = ("red_cell", "platelet")


def render_store(
    folder: Path,
    *,
    patients: int,
    frames: int,
    seed: int,
    preprocessing: Preprocessing | None = None,
    part: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> FrameStore:
    """Render simulated frames into a store.

    Each frame goes through JPEG at a quality of 84 to 95, as a microscope's host would send it.

    Args:
        folder: Of the store.
        patients: How many patients, the five classes in equal shares.
        frames: Fields of view of each.
        seed: Of the patients, fields and compression.
        preprocessing: For the size; the default's otherwise.
        part: (i, n): render only every n-th patient from the i-th on, so that n processes share the work.
        progress: Called with frames done and total.
    """
    total = len(range(part[0], patients, part[1])) * frames
    items = _rendered(patients, frames, seed, preprocessing or Preprocessing(), part)
    origin = simulated_origin(patients=patients, frames=frames, seed=seed)
    return FrameStore.write(folder, items, total=total, origin=origin, progress=progress)


def simulated_origin(*, patients: int, frames: int, seed: int) -> str:
    """What a store of simulated frames is made of."""
    return f"simulated patients {patients} frames {frames} seed {seed}"


def merge_stores(folder: Path, parts: list[Path]) -> FrameStore:
    """Join stores whose groups are numbered over all of them."""
    stores = [FrameStore.open(part) for part in parts]
    items = ((store.pixels[index], frame) for store in stores for index, frame in enumerate(store.frames))
    return FrameStore.write(folder, items, total=sum(map(len, stores)))


def _rendered(
    patients: int, frames: int, seed: int, preprocessing: Preprocessing, part: tuple[int, int]
) -> Iterator[tuple[NDArray[np.uint8], StoredFrame]]:
    people = population(patients, seed=seed)
    for number in range(part[0], patients, part[1]):
        patient = people[number]
        microscope = Microscope(patient, seed=seed + number)
        rng = np.random.default_rng([seed, number])
        for shot in range(frames):
            field = microscope.capture()
            microscope.next_field()
            quality = int(rng.integers(84, 96))
            yield _stored(field, preprocessing, number, quality, f"{patient.patient_id}-{shot:03d}")


def _stored(
    field: Field, preprocessing: Preprocessing, group: int, quality: int, name: str
) -> tuple[NDArray[np.uint8], StoredFrame]:
    _, data = cv2.imencode(".jpg", field.image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    height, width = image.shape[:2]
    across, down = width / preprocessing.width, height / preprocessing.height
    cells = tuple(
        StoredCell(cell.kind, round(cell.centre[0] / across, 2), round(cell.centre[1] / down, 2))
        for cell in field.truth.cells
        if cell.kind not in _NOT_WHITE
    )
    frame = StoredFrame(
        label=LABELS.index(field.truth.disease),
        patient=field.patient_id,
        group=group,
        aspect=across / down,
        source=SOURCE,
        name=name,
        cells=cells,
    )
    return preprocessing.resize(image), frame
