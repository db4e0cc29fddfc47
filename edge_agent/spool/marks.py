"""The spool's second memory of its numbers, outside the database: how far they are given out.

A file of two slots, written in turn, each with a checksum, so that a torn write leaves the other. After each frame the next
number is written without a sync: that outlives the process, not a power cut. Once in a block of numbers it is synced,
with the end of the block: that outlives both.
"""

import logging
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

__all__ = ["MAX_PARKED", "Marks", "SpoolMarks"]

logger = logging.getLogger(__name__)

_BLOCK = 64
_SLOT_BYTES = 4096
_SLOT_OFFSETS = (0, 4096)
MAX_PARKED = 200
_CLEAN = "closed"


@dataclass(frozen=True)
class Marks:
    """What the file says.

    Attributes:
        next: The next number; at least so many were given out.
        reserved: No number from here on was ever given out.
        low: Every number below, but for those of ``parked``, belongs to a frame that needs nothing more.
        parked: Numbers of the parked frames.
        boot: The run of the machine in which it was written, or that it was closed in order.
    """

    next: int = 0
    reserved: int = 0
    low: int = 0
    parked: tuple[int, ...] = ()
    boot: str = "-"


class SpoolMarks:
    """Keeps the marks. The spool's lock guards it.

    Args:
        path: The file; its directory exists when `load` is called.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._marks = Marks()
        self._serial = 0
        self._file = -1
        self._boot = "-"

    @property
    def marks(self) -> Marks:
        """What was loaded, or written since."""
        return self._marks

    @property
    def is_exact(self) -> bool:
        """Whether ``next`` cannot be behind: closed in order, or the machine has not stopped since it was written."""
        return self._marks.boot in (_CLEAN, self._boot) and self._marks.boot != "-"

    def load(self) -> None:
        """Read the file, and open it for writing; an absent or unreadable one counts as empty."""
        self._boot = _boot_id()
        self._marks, self._serial = Marks(), 0
        try:
            if self._file >= 0:
                os.close(self._file)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            for offset in _SLOT_OFFSETS:
                found = _parse(os.pread(self._file, _SLOT_BYTES, offset))
                if found is not None and found[0] > self._serial:
                    self._serial, self._marks = found
        except OSError as error:
            logger.warning("the spool's marks %s cannot be read (%s)", self._path, error.strerror)

    def given(self, next_: int) -> None:
        """Note that every number below ``next_`` is given out; syncs once in a block."""
        if next_ > self._marks.reserved - 1:
            self._write(replace(self._marks, next=next_, reserved=next_ + _BLOCK), sync=True)
        elif next_ > self._marks.next:
            self._write(replace(self._marks, next=next_), sync=False)

    def needed_from(self, low: int, parked: tuple[int, ...]) -> None:
        """Note the lowest number that still needs something, and those parked (`MAX_PARKED` at most)."""
        known = self._marks
        if (low, parked) != (known.low, known.parked):
            self._write(
                replace(known, low=low, parked=parked), sync=low < known.low or parked != known.parked
            )

    def start(self, next_: int) -> None:
        """Begin to give out numbers from ``next_``; from here on the file says that it is in use."""
        reserved = max(self._marks.reserved, next_ + _BLOCK)
        self._write(replace(self._marks, next=max(next_, self._marks.next), reserved=reserved), sync=True)

    def close(self) -> None:
        """Sync and close, after the database."""
        if self._file >= 0:
            self._boot = _CLEAN
            self._write(self._marks, sync=True)
            os.close(self._file)
            self._file = -1

    def _write(self, marks: Marks, *, sync: bool) -> None:
        self._marks = replace(marks, boot=self._boot)
        self._serial += 1
        numbers = (self._serial, marks.next, marks.reserved, marks.low, *marks.parked)
        text = f"{' '.join(map(str, numbers))} {self._boot}"
        slot = f"{text} {zlib.crc32(text.encode()):08x}\n".encode()
        try:
            os.pwrite(self._file, slot, _SLOT_OFFSETS[self._serial % 2])
            if sync:
                os.fdatasync(self._file)
        except OSError as error:
            logger.warning("the spool's marks %s cannot be written (%s)", self._path, error.strerror)


def _parse(slot: bytes) -> tuple[int, Marks] | None:
    try:
        text, _, check = slot.partition(b"\n")[0].decode("ascii").rpartition(" ")
        if int(check, 16) != zlib.crc32(text.encode()):
            return None
        *numbers, boot = text.split(" ")
        serial, next_, reserved, low, *parked = map(int, numbers)
        return serial, Marks(next_, reserved, low, tuple(parked), boot)
    except ValueError:
        return None


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip() or "-"
    except OSError:
        return "-"
