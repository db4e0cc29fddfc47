"""Mends what libfaketime 0.9.10 breaks in Python: it answers EINVAL to the absolute clock_nanosleep(2) of ``time.sleep``.

Python imports this at its start where the harness has put it on the path of a process with a clock of its own.
"""

# ruff: noqa: INP001 (the folder is put on a path, and is no package)

import select
import time
from typing import SupportsIndex


def _sleep(seconds: float | SupportsIndex, /) -> None:
    pause_s = float(seconds)
    if pause_s < 0:
        raise ValueError("sleep length must be non-negative")
    select.select([], [], [], pause_s)


time.sleep = _sleep
