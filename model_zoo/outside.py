"""Frames that are no smear as the package knows them: blank, blurred, at another magnification.

Simulated ones come from the microscope itself, with another focus or pixel size. Of a stored frame, the same is imitated:
blur by a Gaussian, more magnification by enlarging the middle, less by shrinking the frame and mirroring it around.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

SIGMAS: Final = (2, 4, 8)
"""Of the blur, in pixels of a frame that is 640 wide."""

DEFOCUS_UM: Final = (3, 5, 12)
MAGNIFICATIONS: Final = (0.5, 0.7, 1.4, 2.0)
SIMULATED_KINDS: Final = 1 + len(SIGMAS) + len(DEFOCUS_UM) + len(MAGNIFICATIONS)
"""How many strange frames a simulated patient gives."""

BLANK: Final = "blank"
INSIDE: Final = "inside"
"""Kind of the simulated frames as they should be."""

_WIDE: Final = 640
_PIXEL_UM: Final = 0.125
_QUALITY: Final = 90


class Strange(NamedTuple):
    """A frame outside, of a kind, made from a frame of a group with a true class; -1 where there is none any more."""

    kind: str
    image: NDArray[np.uint8]
    label: int
    group: int


def imitated(
    images: Sequence[NDArray[np.uint8]], labels: Sequence[int], groups: Sequence[int], *, seed: int
) -> Iterator[Strange]:
    """Every kind of every frame (H, W, 3) of uint8, kind by kind."""
    for kind, change in _changes(seed).items():
        for image, label, group in zip(images, labels, groups, strict=True):
            yield Strange(kind, change(image), -1 if kind == BLANK else label, group)


def simulated(patients: int, *, seed: int, strange: int | None = None) -> Iterator[Strange]:
    """One field each of fresh simulated patients as it should be (`inside`), and every kind of strange one.

    Args:
        patients: How many.
        seed: Of patients and pictures.
        strange: How many of them, spread evenly, give strange ones too; all otherwise.
    """
    from model_zoo.labels import LABELS  # noqa: PLC0415
    from smear_simulator import Microscope, population  # noqa: PLC0415
    from smear_simulator.optics import Faults  # noqa: PLC0415

    chosen = set(np.linspace(0, patients - 1, patients if strange is None else strange).astype(int).tolist())
    for number, patient in enumerate(population(patients, seed=seed)):
        label = LABELS.index(patient.disease)

        def look(focus_um: float = 0.0, pixel_um: float = _PIXEL_UM, **faults: float) -> NDArray[np.uint8]:
            microscope = Microscope(
                patient,  # noqa: B023 - called in the same round
                seed=seed + number,  # noqa: B023
                pixel_size_um=pixel_um,
                faults=Faults(**faults) if faults else None,
            )
            microscope.focus_um = focus_um
            return _through_jpeg(microscope.capture().image)

        plain = look()
        yield Strange(INSIDE, plain, label, number)
        if number not in chosen:
            continue
        yield Strange(BLANK, look(blank=1.0), -1, number)
        for sigma in SIGMAS:
            yield Strange(
                _blurred(sigma), cv2.GaussianBlur(plain, (0, 0), sigma).astype(np.uint8), label, number
            )
        for focus in DEFOCUS_UM:
            yield Strange(f"out of focus by {focus} micrometres", look(focus_um=focus), label, number)
        for factor in MAGNIFICATIONS:
            yield Strange(_magnified(factor), look(pixel_um=_PIXEL_UM / factor), label, number)


def _changes(seed: int) -> dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]]:
    return {
        BLANK: partial(_emptied, rng=np.random.default_rng(seed)),
        **{_blurred(sigma): partial(_softened, sigma=sigma) for sigma in SIGMAS},
        **{_magnified(factor): partial(_scaled, factor=factor) for factor in MAGNIFICATIONS},
    }


def _blurred(sigma: float) -> str:
    return f"blurred, sigma {sigma} of 640 pixels"


def _magnified(factor: float) -> str:
    return f"magnification x{factor:g}"


def _emptied(image: NDArray[np.uint8], *, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The frame's own background, with a camera's noise."""
    bright = np.percentile(image.reshape(-1, 3), 90, axis=0)
    return np.clip(rng.normal(bright, 2.0, image.shape), 0, 255).astype(np.uint8)


def _softened(image: NDArray[np.uint8], *, sigma: float) -> NDArray[np.uint8]:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma * image.shape[1] / _WIDE), np.uint8)


def _scaled(image: NDArray[np.uint8], *, factor: float) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    if factor > 1:
        tall, wide = round(height / factor), round(width / factor)
        top, left = (height - tall) // 2, (width - wide) // 2
        part = image[top : top + tall, left : left + wide]
        return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    tall, wide = max(2, round(height * factor)), max(2, round(width * factor))
    small = cv2.resize(image, (wide, tall), interpolation=cv2.INTER_AREA)
    top, left = (height - tall) // 2, (width - wide) // 2
    around = (top, height - tall - top, left, width - wide - left)
    return np.asarray(cv2.copyMakeBorder(small, *around, cv2.BORDER_REFLECT), np.uint8)


def _through_jpeg(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
