"""Thumbnails and tiles of the record's frames. Each is made once, by whoever asks first; the others wait for it."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from clinician_dashboard.tiles.cache import Cache
from clinician_dashboard.tiles.errors import NoSuchTile, PictureError
from clinician_dashboard.tiles.pyramid import cut, thumbnail

WIDTHS: Final = (160, 320, 640)
"""Widths of thumbnails, in pixels; a closed list, so that nobody can fill the cache with a thousand sizes of one frame."""

AT_ONCE: Final = 2
"""Pictures decoded at the same time: each may take three bytes for each of its pixels."""

STRIPES: Final = 64


class Pictures:
    """Makes and keeps pictures, named by the content of the frame that they show.

    Args:
        directory: Where they are kept.
        limit_bytes: The most that is kept.
    """

    def __init__(self, directory: Path, *, limit_bytes: int) -> None:
        self._cache = Cache(directory, limit_bytes=limit_bytes)
        self._decoding = threading.BoundedSemaphore(AT_ONCE)
        self._making = tuple(threading.Lock() for _ in range(STRIPES))

    def start(self) -> None:
        """Make the cache's folder."""
        self._cache.start()

    def thumbnail(self, sha256: str, source: Path, width: int) -> bytes:
        """Return a frame's thumbnail as JPEG.

        Args:
            sha256: Of the frame's image.
            source: Its file.
            width: One of `WIDTHS`.

        Raises:
            PictureError: If it cannot be read.
        """
        name = f"{sha256[:2]}/{sha256}/w{width}.jpg"

        def make() -> bytes:
            made = thumbnail(_read(source), width)
            self._cache.put(name, made)
            return made

        return self._kept_or_made(name, f"{sha256}/{width}", make)

    def tile(self, sha256: str, source: Path, *, level: int, column: int, row: int) -> bytes:
        """Return one tile as JPEG. The first one of a level makes all of them: the frame is decoded once.

        Args:
            sha256: Of the frame's image.
            source: Its file.
            level: From 0, the frame itself.
            column: From the left.
            row: From the top.

        Raises:
            NoSuchTile: If the frame has no such tile.
            PictureError: If it cannot be read.
        """
        folder = f"{sha256[:2]}/{sha256}/{level}"

        def make() -> bytes:
            found = None
            for at_column, at_row, content in cut(_read(source), level):
                self._cache.put(f"{folder}-{at_column}-{at_row}.jpg", content)
                if (at_column, at_row) == (column, row):
                    found = content
            if found is None:
                raise NoSuchTile(f"level {level} has no tile {column}, {row}")
            return found

        return self._kept_or_made(f"{folder}-{column}-{row}.jpg", folder, make)

    def _kept_or_made(self, name: str, together: str, make: Callable[[], bytes]) -> bytes:
        kept = self._cache.get(name)
        if kept is not None:
            return kept
        with self._making[hash(together) % STRIPES]:
            kept = self._cache.get(name)  # another made it meanwhile
            if kept is not None:
                return kept
            with self._decoding:
                return make()


def _read(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except OSError as error:
        raise PictureError("the frame's picture is no longer in the record's folder") from error
