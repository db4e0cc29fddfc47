"""One agent a directory: two would mix their frames in one spool."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO

from edge_agent.errors import AgentRefused

FILE_NAME = "edge.lock"


class DirectoryLock:
    """Holds an agent's directory for one process; the system frees it when the process ends, however it ends.

    Args:
        directory: The agent's directory; made if missing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = Path(directory)
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Take the directory.

        Raises:
            AgentRefused: If it cannot be used, or another agent works there.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            file = (self._directory / FILE_NAME).open("a+", encoding="ascii")
        except OSError as error:
            raise AgentRefused(
                f"the directory {self._directory} cannot be used ({error.strerror}): make it writable, or set 'directory'"
            ) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise AgentRefused(
                f"another agent works in {self._directory}: stop it, or give this one a directory and a device name of "
                "its own"
            ) from None
        with contextlib.suppress(OSError):  # the lock holds on a full disk too; the number is for people
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        self._file = file

    def free(self) -> None:
        """Let another agent have the directory. Harmless when it was not taken."""
        if self._file is not None:
            self._file.close()
            self._file = None
