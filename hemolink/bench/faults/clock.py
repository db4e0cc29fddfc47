"""Clocks that can be set wrong: libfaketime in front of one process, which reads its offset from a file.

Only the wall clock jumps, as when NTP steps it; the monotonic clock runs on. Files keep their times.
"""

import glob
import os
from collections.abc import Mapping
from pathlib import Path

_PLACES = (
    "/usr/lib/*/faketime/libfaketime.so.1",
    "/usr/lib*/faketime/libfaketime.so.1",
    "/usr/local/lib/faketime/libfaketime.so.1",
)
_REPAIRS = Path(__file__).parent / "clockwork"


def find_library() -> str | None:
    """Return the path of libfaketime (Debian package ``faketime``), or None where it is not installed."""
    return next((found for place in _PLACES for found in sorted(glob.glob(place))), None)  # noqa: PTH207 - absolute


class Clock:
    """The wall clock of one process.

    Args:
        library: Path of libfaketime.
        path: The file that holds the offset.
    """

    def __init__(self, library: str, path: Path) -> None:
        self._library = library
        self._path = path

    @property
    def environment(self) -> Mapping[str, str]:
        """What the process needs in its environment."""
        return {
            "LD_PRELOAD": self._library,
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(_REPAIRS), os.environ.get("PYTHONPATH", "")])),
        }

    def jump(self, offset_s: int) -> None:
        """Set the clock so far ahead (or behind) of the truth; the process sees it within a second."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        spare = self._path.with_suffix(".new")
        spare.write_text(f"{offset_s:+d}\n", encoding="ascii")
        spare.replace(self._path)

    def right(self) -> None:
        """Set it right."""
        self.jump(0)
