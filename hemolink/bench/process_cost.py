"""What a process costs, as the kernel counts it (Linux, /proc)."""

import os
from pathlib import Path

from hemolink.errors import NotReady

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessCost:
    """Reads a process's resident memory and CPU time.

    Args:
        pid: The process.
    """

    def __init__(self, pid: int) -> None:
        self._directory = Path(f"/proc/{pid}")

    @property
    def resident_mb(self) -> float:
        """Resident memory in MB (10^6 bytes)."""
        return int(self._read("statm").split()[1]) * _PAGE / 1e6

    @property
    def cpu_s(self) -> float:
        """CPU time of all its threads since it began, user and system, in seconds."""
        after_name = self._read("stat").rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / _TICKS

    @property
    def exact_cpu_s(self) -> float:
        """CPU time of its living threads, to the microsecond where the scheduler tells it (schedstat)."""
        total = 0
        for task in (self._directory / "task").iterdir():
            try:
                total += int((task / "schedstat").read_text(encoding="ascii").split()[0])
            except (OSError, ValueError, IndexError):
                continue  # it has just ended, or this kernel does not tell
        return total / 1e9 or self.cpu_s

    @property
    def wakeups(self) -> int:
        """How often one of its threads has waited and gone on; threads that have ended do not count."""
        total = 0
        for task in (self._directory / "task").iterdir():
            try:
                lines = (task / "status").read_text(encoding="ascii", errors="replace").splitlines()
            except OSError:
                continue  # it has just ended
            total += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt"))
        return total

    def _read(self, name: str) -> str:
        try:
            return (self._directory / name).read_text(encoding="ascii", errors="replace")
        except OSError as error:
            raise NotReady(
                f"{self._directory / name} cannot be read ({error.strerror}): this needs Linux"
            ) from None
