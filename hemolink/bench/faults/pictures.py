"""The pictures that the harness puts under its microscopes: crops of simulated smears, no two alike, each with its number."""

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hemolink.bench.faults import mark

Sort = Literal[
    "plain",
    "blank",
    "truncated",
    "raise",
    "hang",
    "abort",
    "undecodable",
    "abort-decoding",
    "too-many-pixels",
    "oversize",
    "huge",
]
"""What is special about a picture: see `SORTS`."""

SORTS: dict[Sort, str] = {
    "plain": "a field like any other",
    "blank": "no cells: the quality gate refuses it",
    "truncated": "half a file: the edge passes it over",
    "raise": "the stand-in model raises on it",
    "hang": "the stand-in model hangs on it",
    "abort": "the stand-in model ends its process on it, as a fault in native code does",
    "undecodable": "the stand-in model cannot make an input of it",
    "abort-decoding": "ends its process while it is decoded",
    "too-many-pixels": "more pixels than a worker decodes",
    "oversize": "larger than the broker takes, and small enough once it is encoded again",
    "huge": "larger than the broker takes however it is encoded",
}
assert set(SORTS) == set(get_args(Sort))  # noqa: S101 - at import: the table is whole

WIDTH, HEIGHT = 320, 240
MAX_PACKET_BYTES = 240_000
"""What the harness's broker takes; the sizes of ``oversize`` and ``huge`` go with it."""

MAX_WORKER_PIXELS = 900_000

_TEMPERS: dict[Sort, mark.Temper] = {
    "raise": "raise",
    "hang": "hang",
    "abort": "abort",
    "undecodable": "undecodable",
    "abort-decoding": "abort-decoding",
}
_FIELD = (1280, 960)
_QUALITY = 88
_NOISE = 40.0
_Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """A file to give to an edge.

    Attributes:
        number: The harness's own number, also drawn into the pixels.
        sort: What is special about it.
        suffix: Of the file's name.
        data: The file.
        sha256: Hash of the file.
    """

    number: int
    sort: Sort
    suffix: str
    data: bytes = field(repr=False)
    sha256: str = ""


class Album:
    """Draws large fields once, then cuts pictures out of them.

    Args:
        seed: Seed of patients and crops.
        fields: How many large fields to draw.
    """

    def __init__(self, *, seed: int, fields: int = 12) -> None:
        self._seed = seed
        self._count = fields
        self._rng = np.random.default_rng([seed, 77])
        self._fields: list[_Image] = []

    def draw(self) -> None:
        """Draw the fields; a fifth of a second each."""
        from smear_simulator import Faults, Microscope, population  # noqa: PLC0415 - loads OpenCV

        self._fields = [
            np.asarray(
                Microscope(
                    patient,
                    width=_FIELD[0],
                    height=_FIELD[1],
                    seed=self._seed,
                    faults=Faults(blank=0, out_of_focus=0),
                )
                .capture()
                .image
            )
            for patient in population(self._count, seed=self._seed)
        ]

    def picture(self, number: int, *, sort: Sort = "plain") -> Picture:
        """Return one picture."""
        if sort == "blank":
            image = np.full((HEIGHT, WIDTH, 3), 225, np.uint8)
            image += self._rng.integers(0, 3, image.shape, np.uint8)
            return self._jpeg(number, sort, image)
        if sort == "oversize":
            return self._png(number, sort, self._noisy(number, 640, 480))
        if sort == "huge":
            return self._png(number, sort, self._noisy(number, 1280, 960))
        if sort == "too-many-pixels":
            image = self._fields[number % self._count].copy()
            mark.draw(image, number)
            return self._jpeg(number, sort, image, quality=60)
        image = self._crop(number, WIDTH, HEIGHT)
        mark.draw(image, number, temper=_TEMPERS.get(sort, "plain"))
        picture = self._jpeg(number, sort, image)
        if sort == "truncated":
            half = picture.data[: len(picture.data) // 2]
            return Picture(number, sort, ".jpg", half, hashlib.sha256(half).hexdigest())
        return picture

    def _crop(self, number: int, width: int, height: int) -> _Image:
        field_ = self._fields[number % self._count]
        top = int(self._rng.integers(0, field_.shape[0] - height + 1))
        left = int(self._rng.integers(0, field_.shape[1] - width + 1))
        crop = field_[top : top + height, left : left + width]
        if self._rng.random() < 0.5:  # noqa: PLR2004 - a coin
            crop = crop[:, ::-1]
        return np.ascontiguousarray(crop)

    def _noisy(self, number: int, width: int, height: int) -> _Image:
        """Return a field with so much noise that no encoder makes it small."""
        noise = self._rng.normal(0, _NOISE, (height, width, 3))
        image = np.clip(self._crop(number, width, height) + noise, 5, 250).astype(np.uint8)
        mark.draw(image, number)
        return image

    def _jpeg(self, number: int, sort: Sort, image: _Image, *, quality: int = _QUALITY) -> Picture:
        import cv2  # noqa: PLC0415 - loaded on first use

        return _picture(
            number, sort, ".jpg", cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        )

    def _png(self, number: int, sort: Sort, image: _Image) -> Picture:
        import cv2  # noqa: PLC0415 - loaded on first use

        return _picture(number, sort, ".png", cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1]))


def _picture(number: int, sort: Sort, suffix: str, encoded: tuple[bool, Any]) -> Picture:
    ok, data = encoded
    if not ok:
        raise RuntimeError(f"picture {number} could not be encoded as {suffix}")
    content = bytes(data)
    return Picture(number, sort, suffix, content, hashlib.sha256(content).hexdigest())
