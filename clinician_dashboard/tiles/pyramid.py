"""A frame at halved sizes, each cut into square tiles.

Level 0 is the frame as it was captured; each further level halves both sides, rounded up, until one tile holds it. The tile at
(column, row) of a level covers ``TILE`` pixels of that level from ``TILE * column`` and ``TILE * row`` on; the last ones are
smaller. A JPEG is decoded at reduced scale for the levels 1 to 3 (``web/static/tiles.js`` has the same rules).
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from clinician_dashboard.tiles.errors import NoSuchTile, PictureError

if TYPE_CHECKING:
    from PIL.Image import Image

TILE: Final = 512
LARGE_PIXELS: Final = 4_000_000
"""A frame of more pixels is shown in tiles; a smaller one is sent whole."""

MOST_PIXELS: Final = 100_000_000
"""A larger picture is not opened: its pixels take three bytes each in memory."""

QUALITY: Final = 90
REDUCED_BY_DECODER: Final = 3
FORMATS: Final = ("JPEG", "PNG", "WEBP")


def is_large(width: int, height: int) -> bool:
    """Return whether a frame of that size is shown in tiles."""
    return LARGE_PIXELS < width * height <= MOST_PIXELS


def levels_of(width: int, height: int) -> int:
    """Return how many levels a frame has; at least one."""
    levels = 1
    while max(width, height) > TILE:
        width, height = (width + 1) // 2, (height + 1) // 2
        levels += 1
    return levels


def size_at(level: int, *, width: int, height: int) -> tuple[int, int]:
    """Return width and height of a level, in pixels."""
    return -(-width // 2**level), -(-height // 2**level)


def cut(image: bytes, level: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield every tile of a level as (column, row, JPEG).

    Args:
        image: The frame as it was captured: JPEG, PNG or WebP.
        level: From 0.

    Raises:
        NoSuchTile: If the frame has no such level.
        PictureError: If the image cannot be read.
    """
    picture = _at_level(image, level)
    for top in range(0, picture.height, TILE):
        for left in range(0, picture.width, TILE):
            box = (left, top, min(left + TILE, picture.width), min(top + TILE, picture.height))
            yield left // TILE, top // TILE, _jpeg(picture.crop(box))


def thumbnail(image: bytes, width: int) -> bytes:
    """Return a frame as a JPEG of ``width`` pixels; one that is no wider keeps its size.

    Raises:
        PictureError: If the image cannot be read.
    """
    from PIL import Image  # noqa: PLC0415 - takes a moment, and only pages need it

    with _opened(image) as opened:
        # No narrower than this, and so that no edge is thinner than a pixel.
        size = (min(width, opened.width), max(1, round(opened.height * min(1.0, width / opened.width))))
        opened.draft("RGB", (2 * size[0], 2 * size[1]))  # twice as fine as needed, then filtered
        return _jpeg(opened.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0))


def _at_level(image: bytes, level: int) -> "Image":
    with _opened(image) as opened:
        width, height = opened.size
        if not 0 <= level < levels_of(width, height):
            raise NoSuchTile(f"a frame of {width} x {height} pixels has no level {level}")
        wanted = size_at(level, width=width, height=height)
        decoded = min(level, REDUCED_BY_DECODER)
        opened.draft("RGB", size_at(decoded, width=width, height=height))
        picture = opened.convert("RGB")
        if picture.size == wanted:
            return picture
        already = next(
            (one for one in range(level) if picture.size == size_at(one, width=width, height=height)), None
        )
        if already is None:
            raise PictureError("the frame's picture is not of the size that its header says")
        return picture.reduce(2 ** (level - already))


@contextmanager
def _opened(image: bytes) -> "Iterator[Image]":
    """Open a picture, and tell any of a decoder's complaints as one error."""
    from PIL import Image  # noqa: PLC0415

    try:
        with Image.open(io.BytesIO(image), formats=FORMATS) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise PictureError(
                    f"the frame's picture is larger than {MOST_PIXELS // 1_000_000} million pixels"
                )
            yield opened
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning) as error:
        raise PictureError("the frame's picture cannot be read") from error


def _jpeg(picture: "Image") -> bytes:
    held = io.BytesIO()
    picture.save(held, "JPEG", quality=QUALITY, subsampling=0)
    return held.getvalue()
