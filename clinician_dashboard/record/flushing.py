"""Waiting once for the disk, for a whole batch of files: ``syncfs`` where the kernel reports its errors."""

import ctypes
import logging
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

SLOW_S = 1.0
PAUSE_S = 60.0
_REPORTS_ERRORS = (5, 8)
"""From this Linux on, syncfs(2) tells of data that could not be written."""


class Flusher:
    """Brings a whole file system to the disk, files, names and folders, in one call.

    One call costs what a few single files cost, but it waits for what other programs have written too. After a call that
    took long it declines for a while, and files are waited for one by one.

    Args:
        directory: A folder on that file system.
        clock: Returns seconds that never go back.
    """

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._clock = clock
        self._call = _find()
        self._not_before = 0.0

    @property
    def ready(self) -> bool:
        """Whether `flush` may be used now."""
        return self._call is not None and self._clock() >= self._not_before

    def flush(self) -> None:
        """Return when everything written so far is on the disk.

        Raises:
            OSError: If something could not be written.
        """
        assert self._call is not None  # noqa: S101 - the caller asks `ready` first
        began = self._clock()
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            if self._call(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(self._directory))
        finally:
            os.close(descriptor)
        took = self._clock() - began
        if took > SLOW_S:
            self._not_before = self._clock() + PAUSE_S
            logger.info(
                "the disk took %.1f s for everything that was written: images are waited for alone", took
            )


def _find() -> Callable[[int], int] | None:
    if platform.system() != "Linux":
        return None
    version = platform.release().split("-")[0].split(".")
    try:
        if tuple(int(part) for part in version[:2]) < _REPORTS_ERRORS:
            return None
        call: Callable[[int], int] = ctypes.CDLL(None, use_errno=True).syncfs
    except (ValueError, OSError, AttributeError):
        return None
    return call
