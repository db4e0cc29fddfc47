"""Who this worker is: a name that stays through restarts, and a folder that is its alone."""

import contextlib
import hashlib
import os
import re
import socket
from pathlib import Path
from typing import IO

from broker_config.errors import SettingsError

try:
    import fcntl
except ImportError:  # a system without file locks
    fcntl = None  # type: ignore[assignment]

_LONGEST_HOST = 40


def default_name(directory: Path, *, username: str | None = None) -> str:
    """Return this worker's name where the settings give none.

    With a user name of the form that `hemolink broker` gives a worker (``worker.NAME``) it is that NAME, which the broker's
    access rules ask for. Otherwise host name and four digits of the folder: the same at each start, and another for each
    worker of a machine.

    Args:
        directory: The worker's folder.
        username: Its user name at the broker.
    """
    if username is not None and (named := re.fullmatch(r"worker\.([a-z0-9][a-z0-9_-]{0,47})", username)):
        return named[1]
    host = re.sub(r"[^a-z0-9_-]+", "-", socket.gethostname().lower()).strip("-_")[:_LONGEST_HOST] or "worker"
    place = hashlib.sha256(os.fsencode(Path(directory).absolute())).hexdigest()[:4]
    return f"{host}-{place}"


class FolderLock:
    """Keeps a second worker out of a folder for as long as this process lives, however it ends.

    Args:
        directory: The folder.
    """

    def __init__(self, directory: Path) -> None:
        self._path = Path(directory) / "lock"
        self._file: IO[bytes] | None = None

    def take(self) -> None:
        """Take the folder.

        Raises:
            SettingsError: If another worker has it, or it cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("ab")
        except OSError as error:
            raise SettingsError(
                f"{self._path.parent}: cannot be used ({error.strerror or error}): make it writable to this user, or set "
                "directory to another"
            ) from None
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise SettingsError(
                f"{self._path.parent}: another worker runs there: give each worker a directory (and with it a name) of "
                "its own"
            ) from None
        self._file = file

    def release(self) -> None:
        """Let go of it. Harmless if it was not taken."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
