"""One process at a time writes a record's folder; the kernel lets go of the lock when the process ends, however it ends."""

import fcntl
from pathlib import Path
from typing import IO

from clinician_dashboard.errors import RecordInUse


class FolderLock:
    """A lock file in the folder.

    Args:
        directory: The record's folder.
    """

    def __init__(self, directory: Path) -> None:
        self._path = Path(directory) / ".lock"
        self._file: IO[bytes] | None = None

    def take(self) -> None:
        """Take the lock.

        Raises:
            RecordInUse: If another process has it.
            OSError: If the file cannot be made.
        """
        file = self._path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise RecordInUse(
                f"{self._path.parent} is in use by a running dashboard, or by a command that writes it: one at a time; end "
                "the other, or name another folder under 'directory'"
            ) from None
        self._file = file

    def release(self) -> None:
        """Let go of it; nothing happens if it is not held."""
        if self._file is not None:
            self._file.close()
            self._file = None
