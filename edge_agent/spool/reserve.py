"""The spool's reserve: a file that only takes up room, given up when the disk is full.

On a full disk SQLite cannot even delete: a deletion is first written to the log. So receipts could not be noted, and the
spool would stay full because it is full. The reserve is released then, and made again when there is room.
"""

import logging
import os
import shutil
from pathlib import Path

logger = logging.getLogger(__name__)

FILE_NAME = "spool.reserve"


class SpoolReserve:
    """Keeps room on the disk for noting receipts. The spool's lock guards it.

    Args:
        directory: Where the spool is.
        size: Bytes to keep; 0 keeps none.
    """

    def __init__(self, directory: Path, size: int) -> None:
        self._path = directory / FILE_NAME
        self._size = size
        self._sentence = ""

    @property
    def sentence(self) -> str:
        """What a person must know while the reserve is in use; empty otherwise."""
        return self._sentence

    @property
    def held(self) -> bool:
        """Whether the reserve is in its place."""
        return self._size == 0 or not self._sentence

    def ensure(self) -> None:
        """Make the reserve where it is missing, if that leaves half as much room again."""
        if self._size == 0:
            return
        try:
            if self._path.exists() and self._path.stat().st_blocks * 512 >= self._size:
                self._sentence = ""
                return
        except OSError:
            pass
        if self.free_bytes() < self._size + self._size // 2:
            self._complain("there is no room for its reserve")
            return
        if self._take(self._size):
            if self._sentence:
                logger.info("the disk has room again: the spool has its reserve back")
            self._sentence = ""

    def take_what_there_is(self) -> None:
        """Before the spool is closed on a full disk: keep the room that its log gives back, for the next start."""
        if self._size and self._sentence and (free := min(self._size, self.free_bytes())) > 0:
            self._take(free)

    def _take(self, size: int) -> bool:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.posix_fallocate(descriptor, 0, size)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            self._complain(f"its reserve cannot be made: {error.strerror}")
            return False
        return True

    def release(self) -> bool:
        """Give the room up if the disk is full; returns whether that made any."""
        if not self._path.exists() or self.free_bytes() >= self._size:
            return False
        try:
            self._path.unlink()
        except OSError as error:
            logger.warning("the spool's reserve %s cannot be removed (%s)", self._path, error.strerror)
            return False
        self._complain("it lives on its reserve to note receipts")
        return True

    def has_room_for(self, size: int, *, inside: int = 0) -> bool:
        """Return whether a payload of ``size`` bytes leaves room for the log and the database to take it in.

        Args:
            size: Bytes.
            inside: Bytes that are free in the database's own file.
        """
        if self._size == 0:
            return True
        return self.held and self.free_bytes() >= self._size // 4 + size + max(0, 2 * size - inside)

    def free_bytes(self) -> int:
        """Return the room on the disk."""
        try:
            return shutil.disk_usage(self._path.parent).free
        except OSError:
            return 0

    def _complain(self, what: str) -> None:
        sentence = (
            f"the disk under the spool is full, and {what}: no frames are taken, those in the spool are delivered; "
            f"make room in {self._path.parent}"
        )
        if not self._sentence:
            logger.error("%s", sentence)
        self._sentence = sentence
