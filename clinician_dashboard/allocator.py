"""The memory of a process that takes in many images and answers for weeks."""

import ctypes
import gc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h of glibc
_ARENAS = 2
_TRIM_BYTES = 1 << 20
_MMAP_BYTES = 1 << 16


def keep_small() -> bool:
    """Have glibc give memory back; returns whether it could be told.

    Payloads of all sizes come on one thread and leave on another. By default glibc keeps an arena for each thread and
    raises the size from which it maps a block of its own, so holes between images stay with the process: a fuzz run of
    33,000 messages left 25 MB of them. Two arenas, and blocks of 64 KiB and more mapped and unmapped, end that
    (mallopt(3)). Elsewhere than on glibc nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    done = [
        mallopt(_M_ARENA_MAX, _ARENAS),
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES),
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES),
    ]
    return all(done)


def keep_started() -> None:
    """Take what a started process is made of out of Python's garbage collection, for as long as it runs.

    Modules, tables and routes are 145,000 objects that end with the process. To look through them all took 100 ms, about every
    45th page, with every thread standing still; what comes and goes beside them takes 6 to 10 ms.
    """
    gc.collect()
    gc.freeze()
