"""What every daemon does alike: stop when told to, count its births, and announce its ports."""

import json
import logging
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from broker_config.errors import SettingsError

logger = logging.getLogger(__name__)

EXIT_FORCED = 130
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Shutdown:
    """Turns SIGTERM and SIGINT into an event; a second signal ends the process at once.

    Attributes:
        requested: Set when the process should drain and end.
    """

    def __init__(self) -> None:
        self.requested = threading.Event()

    def install(self) -> None:
        """Take over SIGTERM and SIGINT. Only the main thread may call this."""
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        # os.write and not the log: a handler may interrupt a thread that holds the log's lock.
        if self.requested.is_set():
            os.write(2, b"second signal: ending at once\n")
            os._exit(EXIT_FORCED)
        os.write(2, f"{signal.Signals(number).name}: finishing; a second signal ends at once\n".encode())
        self.requested.set()


def write_durably(path: Path, content: bytes) -> None:
    """Write a file so that after a power cut it holds either the old content or the new.

    Raises:
        OSError: If it cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def next_birth(path: Path) -> int:
    """Return a number that is higher at each start, kept in the file ``path``.

    A file that was lost starts again at 1, and receivers take such a device for an older self until its count has
    caught up; a file that cannot be read is therefore an error and not a fresh start.

    Raises:
        SettingsError: If the file cannot be read or written, or does not hold a number.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        birth = int(path.read_text(encoding="ascii")) + 1 if path.exists() else 1
        write_durably(path, f"{birth}\n".encode())
    except ValueError:
        raise SettingsError(
            f"{path}: does not hold a number, but counts this device's starts: write into it a number higher than "
            "the birth in the device's last retained state"
        ) from None
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be kept ({error.strerror or error}): make the directory writable to this user and "
            "leave room on the disk"
        ) from None
    return birth


def announce_ports(directory: Path, role: str, ports: Mapping[str, int]) -> None:
    """Write the ports a daemon listens on to ``<directory>/<role>.port.json``, for those that started it."""
    write_durably(Path(directory) / f"{role}.port.json", json.dumps(dict(ports)).encode() + b"\n")
