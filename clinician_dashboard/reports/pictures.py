"""Small pictures of frames for a page on paper, with and without the map of where the model looked.

The map is drawn by the rule of ``web/static/overlay.js``, so that paper and screen show the same.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from clinician_dashboard.reports.errors import MissingPart

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS = 64_000_000
"""A larger picture is not opened: a page shows a thumbnail of it, and memory is bounded."""

OPACITY = 0.6
_VIRIDIS = np.array(
    [
        *([68, 1, 84], [72, 36, 117], [65, 68, 135], [53, 95, 141], [42, 120, 142], [33, 145, 140]),
        *([34, 168, 132], [68, 191, 112], [122, 209, 81], [189, 223, 38], [253, 231, 37]),
    ],
    dtype=np.float64,
)

Grid = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Thumbnails:
    """JPEGs of one frame: as captured, and under the map; both of the same size in pixels."""

    plain: bytes
    overlaid: bytes | None
    width: int
    height: int


def thumbnails(image: bytes, grid: Grid, *, width: int) -> Thumbnails | None:
    """Return small pictures of a frame, or none if it cannot be read.

    Args:
        image: The frame's image as it was captured: JPEG, PNG or WebP.
        grid: The activation map, rows from the top left, 0 to 1; empty if there is none.
        width: Of the pictures, in pixels.

    Raises:
        MissingPart: If Pillow is not installed.
    """
    try:
        from PIL import Image  # noqa: PLC0415 - only this needs it
    except ImportError:
        raise MissingPart("pictures need the package Pillow: install the extra hemolink[reports]") from None
    try:
        with Image.open(io.BytesIO(image), formats=("JPEG", "PNG", "WEBP")) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                return None
            height = max(1, min(4 * width, round(width * opened.height / opened.width)))
            opened.draft("RGB", (width, height))  # a JPEG is decoded at reduced scale
            plain = opened.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning):
        return None  # whatever a decoder says of a damaged file, the page has a place for "no picture"
    overlaid = None
    if len(grid) > 1:
        overlaid = Image.fromarray(
            overlay(np.asarray(plain, dtype=np.float64), np.asarray(grid, dtype=np.float64))
        )
    return Thumbnails(_jpeg(plain), _jpeg(overlaid) if overlaid else None, width, height)


def overlay(picture: npt.NDArray[np.float64], grid: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Return a picture with the map drawn over it.

    Args:
        picture: RGB, 0 to 255, shape (height, width, 3).
        grid: 0 to 1, shape (rows, columns).
    """
    height, width = picture.shape[:2]
    values = _enlarge(grid, height=height, width=width)
    alpha = OPACITY * np.clip((values - 0.16) / 0.7, 0.0, 1.0) ** 1.3
    places = np.clip(values, 0.0, 1.0) * (len(_VIRIDIS) - 1)
    low = np.minimum(len(_VIRIDIS) - 2, places.astype(np.intp))
    share = (places - low)[..., None]
    colours = _VIRIDIS[low] * (1 - share) + _VIRIDIS[low + 1] * share
    mixed = picture * (1 - alpha[..., None]) + colours * alpha[..., None]
    drawn: npt.NDArray[np.uint8] = np.rint(mixed).astype(np.uint8)
    return drawn


def _enlarge(grid: npt.NDArray[np.float64], *, height: int, width: int) -> npt.NDArray[np.float64]:
    """Bilinear; cell centres lie at (i + 0.5) / side, and the border repeats the last cell."""
    rows, columns = grid.shape
    down = np.clip((np.arange(height) + 0.5) / height * rows - 0.5, 0, rows - 1)
    along = np.clip((np.arange(width) + 0.5) / width * columns - 0.5, 0, columns - 1)
    tall = np.stack([np.interp(down, np.arange(rows), grid[:, column]) for column in range(columns)], axis=1)
    return np.stack([np.interp(along, np.arange(columns), line) for line in tall])


def _jpeg(picture: "Image | Any") -> bytes:
    held = io.BytesIO()
    picture.save(held, "JPEG", quality=88)
    return held.getvalue()
