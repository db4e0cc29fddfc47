"""Is there room for another field: in the spool, and on its disk."""

import shutil
from pathlib import Path

from edge_agent.settings import SpoolSettings
from edge_agent.spool import Spool
from edge_agent.status import Alarms


class Room:
    """Looks, and raises the alarms. One thread uses it.

    Capture stops when the spool is nearly full and goes on when it has emptied somewhat. No frame is ever dropped to make
    room, and none is skipped to save some.

    Args:
        settings: The bounds.
        directory: Where the spool is.
        spool: The spool.
        alarms: Where to raise alarms.
    """

    def __init__(self, settings: SpoolSettings, *, directory: Path, spool: Spool, alarms: Alarms) -> None:
        self._settings = settings
        self._directory = directory
        self._spool = spool
        self._alarms = alarms
        self._is_full = False

    def look(self) -> bool:
        """Return whether another field may be taken."""
        limits = self._settings
        filled = self._spool.totals.size / limits.max_bytes
        self._is_full = filled >= (limits.low_water if self._is_full else limits.high_water)
        self._alarms.complain(
            "spool",
            f"the spool is {filled:.0%} full, and capture has stopped: bring the broker, the workers and the record "
            "back, or raise spool.max_bytes"
            if self._is_full
            else "",
        )
        free = free_bytes(self._directory)
        short = free < limits.min_free_bytes
        if short:
            self._alarms.complain(
                "disk",
                f"the disk has {free // 1_000_000} MB left, and capture has stopped: make room (spool.min_free_bytes is "
                f"{limits.min_free_bytes // 1_000_000} MB)",
            )
        elif not self._is_full:
            self._alarms.clear("disk")
        return not (short or self._is_full)


def free_bytes(directory: Path) -> int:
    """Return the room left on a directory's disk."""
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return 0
