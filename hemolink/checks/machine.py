"""Python, cores, memory and disk."""

import os
import platform
import shutil
import sys
from pathlib import Path

from hemolink.finding import Finding, fault, fine, warning

AREA = "machine"
MIN_PYTHON = (3, 11)
MIN_CORES = 2
MIN_MEMORY_GIB = 2.0
DISK_WARN_GIB = 2.0
DISK_FAULT_GIB = 0.2
_GIB = 1024**3


def check_machine(directory: Path) -> list[Finding]:
    """Check this machine.

    Args:
        directory: Where the daemons write; its disk is the one that counts. It need not exist yet.
    """
    return [_python(), _cores(), _memory(), check_disk(directory, area=AREA)]


def _python() -> Finding:
    version = platform.python_version()
    if sys.version_info < MIN_PYTHON:
        return fault(AREA, f"Python {version} is too old", "install Python 3.11 or newer")
    return fine(AREA, f"Python {version} on {platform.system()} {platform.machine()}")


def _cores() -> Finding:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if available < MIN_CORES:
        return warning(
            AREA,
            f"{available} core: the demo's four processes share it",
            "give the machine two cores or more, or run fewer roles on it",
        )
    return fine(AREA, f"{available} cores")


def _memory() -> Finding:
    available = _available_bytes()
    if available is None:
        return fine(AREA, "memory cannot be measured on this system")
    gib = available / _GIB
    if gib < MIN_MEMORY_GIB:
        return warning(
            AREA,
            f"{gib:.1f} GiB of memory are free",
            f"a worker with the demo wants {MIN_MEMORY_GIB:.0f} GiB: end others",
        )
    return fine(AREA, f"{gib:.1f} GiB of memory free")


def _available_bytes() -> int | None:
    """Return the memory that could be taken without swapping: the container's limit counts too."""
    found: list[int] = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
        if limit != "max":
            found.append(max(0, int(limit) - used))
    except (OSError, ValueError, IndexError):
        pass
    return min(found) if found else None


def check_disk(directory: Path, *, area: str) -> Finding:
    """Check that there is room where ``directory`` is, or will be."""
    existing = directory.resolve()
    while not existing.exists():
        existing = existing.parent
    try:
        free = shutil.disk_usage(existing).free / _GIB
    except OSError as error:
        return fault(area, f"the disk of {existing} cannot be asked ({error.strerror})", "check the mount")
    said = f"{free:.1f} GiB free on the disk of {existing}"
    if free < DISK_FAULT_GIB:
        return fault(
            area, said, "make room: an edge stops capturing, and a record stops storing, when it is full"
        )
    if free < DISK_WARN_GIB:
        return warning(area, said, "make room soon: an edge stops capturing when it is full")
    return fine(area, said)


def check_writable(directory: Path, *, area: str) -> Finding | None:
    """Return a fault if the daemon's folder cannot be made or written to, else none. Makes nothing."""
    existing = directory.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        return fault(
            area, f"{existing} is a file, and {directory} was to be a folder", "name another directory"
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        return fault(
            area,
            f"{existing} is not writable to this user (uid {os.getuid()})",
            f"chown it to the user that runs the daemon, or name another directory than {directory}",
        )
    return None
