"""The case on the stage: which accession code the next frames belong to, kept through a restart."""

import json
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from broker_config.messages import CaseCode
from broker_config.process import write_durably
from broker_config.topics import Priority
from edge_agent.errors import CaseRefused

logger = logging.getLogger(__name__)

FILE_NAME = "case.json"
_code = TypeAdapter[str](CaseCode)


@dataclass(frozen=True)
class Case:
    """A case.

    Attributes:
        code: Opaque accession code.
        priority: Whether its frames go before others.
    """

    code: str
    priority: Priority = "routine"


class CaseBook:
    """Holds the current case in ``<directory>/case.json``; safe for several threads and watched for other writers.

    Args:
        directory: The agent's directory.
        standing: The case of the settings, used while none is started.
    """

    def __init__(self, directory: Path, standing: Case | None = None) -> None:
        self._path = Path(directory) / FILE_NAME
        self._standing = standing
        self._lock = threading.Lock()
        self._started: Case | None = None
        self._stamp: tuple[int, int] | None = None

    @property
    def current(self) -> Case | None:
        """The started case, else the settings' own, else none."""
        with self._lock:
            self._look()
            return self._started or self._standing

    def start(self, code: str, *, priority: Priority = "routine") -> Case:
        """Make ``code`` the current case, durably.

        Raises:
            CaseRefused: If the code may not be used, or cannot be kept.
        """
        case = Case(check_code(code), priority)
        self._write({"code": case.code, "priority": case.priority})
        with self._lock:
            self._look()
            self._started = case
        return case

    def stop(self) -> Case | None:
        """End the started case and return it.

        Raises:
            CaseRefused: If that cannot be kept.
        """
        with self._lock:
            self._look()
            ended, self._started = self._started, None
        self._write({})
        with self._lock:
            self._look()
        return ended

    def _write(self, content: dict[str, str]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(self._path, json.dumps(content).encode() + b"\n")
        except OSError as error:
            raise CaseRefused(
                f"the case cannot be kept in {self._path} ({error.strerror or error}): make the directory writable and "
                "leave room on the disk"
            ) from None

    def _look(self) -> None:
        """Read the file again when another process has written it."""
        try:
            status = self._path.stat()
        except OSError:
            return
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp == self._stamp:
            return
        try:
            content: Any = json.loads(self._path.read_bytes())
            if content:
                stat = content.get("priority", "routine") == "stat"
                self._started = Case(check_code(content["code"]), "stat" if stat else "routine")
            else:
                self._started = None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, CaseRefused):
            logger.warning("%s holds no case that can be read: start the case again", self._path)
            self._started = None
        self._stamp = stamp


def check_code(code: object) -> str:
    """Return ``code`` if it may name a case.

    Raises:
        CaseRefused: If it may not.
    """
    try:
        return _code.validate_python(code, strict=True)
    except ValidationError:
        raise CaseRefused(
            f"{str(code)[:60]!r} cannot name a case: use the opaque accession code, 1 to 40 letters, digits, '.', '_' "
            "and '-', starting with a letter or a digit; never a patient's name"
        ) from None
