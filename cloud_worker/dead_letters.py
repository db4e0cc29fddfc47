"""Dead letters on disk: the payload as it came, and a note of why, for a later look and another try.

``<sha256>.bin`` holds the payload and ``<sha256>.json`` the note, which holds no patient data: no case code and no
bytes of the image. The same payload rejected again is counted and not kept twice. The folder is bounded; beyond the
bound the oldest go (an edge keeps its own rejected frames until a person has seen to them).
"""

import hashlib
import logging
import re
import threading
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from broker_config.errors import SettingsError
from broker_config.messages import Moment, Rejection
from cloud_worker.settings import DeadLetterSettings

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[0-9a-f]{64}")


class Note(BaseModel):
    """What is known of a dead letter.

    Attributes:
        sha256: Of the payload; its file's name.
        topic: Where it was published, empty if that was no frame topic.
        times: How often it was rejected.
        kept: Whether the payload is on disk; false for one larger than the whole bound.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    sha256: str
    topic: str
    code: str
    reason: str
    frame_id: str | None
    payload_bytes: int
    by: str
    at: Moment
    times: int = 1
    kept: bool = True


class DeadLetters:
    """The dead letters of one worker. Any thread may call any method.

    Args:
        directory: The folder; made by `open`.
        settings: Its bounds.

    Attributes:
        removed: How many the bounds have removed since the start.
    """

    def __init__(self, directory: Path, settings: DeadLetterSettings | None = None) -> None:
        self.directory = Path(directory)
        self._settings = settings or DeadLetterSettings()
        self._lock = threading.Lock()
        self._held: dict[str, int] = {}  # bytes by name, oldest first
        self.removed = 0

    def open(self) -> None:
        """Make the folder and count what is in it.

        Raises:
            SettingsError: If it cannot be made or read.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = sorted(
                (path.stat().st_mtime_ns, path.stem)
                for path in self.directory.glob("*.json")
                if _NAME.fullmatch(path.stem)
            )
            sizes = {name: self._size(name) for _, name in found}
        except OSError as error:
            raise SettingsError(
                f"{self.directory}: cannot be used for dead letters ({error.strerror or error}): make it writable to "
                "this user, or set directory to another"
            ) from None
        with self._lock:
            self._held = sizes

    def keep(self, payload: bytes | None, rejection: Rejection, *, topic: str) -> None:
        """Put one payload away. A disk that is full is logged: the dead letter is still published.

        Args:
            payload: The bytes as they came; none if they are not at hand.
            rejection: The message about it.
            topic: Where it was published, empty if that was no frame topic.
        """
        name = rejection.payload_sha256
        with self._lock:
            try:
                earlier = self.note(name) if name in self._held else None
                kept = payload is not None and len(payload) <= self._settings.max_bytes
                note = Note(
                    sha256=name,
                    topic=topic,
                    code=rejection.code,
                    reason=rejection.reason,
                    frame_id=rejection.frame_id,
                    payload_bytes=len(payload or b""),
                    by=rejection.by,
                    at=rejection.at,
                    times=earlier.times + 1 if earlier else 1,
                    kept=kept,
                )
                if payload is not None and kept and not self._path(name).exists():
                    _write(self._path(name), payload)
                _write(self._note_path(name), note.model_dump_json(indent=2).encode() + b"\n")
                self._held.pop(name, None)
                self._held[name] = len(payload) if payload is not None and kept else 0
                self._prune()
            except OSError as error:
                logger.error(  # noqa: TRY400 - the cause is in the message
                    "a dead letter could not be kept in %s (%s): free disk space there; it is published all the same",
                    self.directory,
                    error.strerror or error,
                    extra={"payload_sha256": name},
                )

    def notes(self) -> list[Note]:
        """Return the notes, oldest first. Files that are no notes are passed over."""
        paths = [path for path in self.directory.glob("*.json") if _NAME.fullmatch(path.stem)]
        found = [note for path in paths if (note := self.note(path.stem)) is not None]
        return sorted(found, key=lambda note: note.at)

    def note(self, name: str) -> Note | None:
        """Return one note, or none if there is none that can be read."""
        try:
            return Note.model_validate_json(self._note_path(name).read_bytes())
        except (OSError, ValidationError):
            return None

    def payload(self, name: str) -> bytes | None:
        """Return a payload, or none if it is not there or no longer what its name says."""
        try:
            payload = self._path(name).read_bytes()
        except OSError:
            return None
        return payload if hashlib.sha256(payload).hexdigest() == name else None

    def remove(self, name: str) -> None:
        """Remove one dead letter; harmless if it is not there."""
        self._path(name).unlink(missing_ok=True)
        self._note_path(name).unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._held)

    def _prune(self) -> None:
        total = sum(self._held.values())
        while len(self._held) > self._settings.max_count or total > self._settings.max_bytes:
            oldest = next(iter(self._held))
            total -= self._held.pop(oldest)
            self.remove(oldest)
            self.removed += 1
            logger.warning(
                "the oldest dead letter was removed, the folder being full: look at them with "
                "'hemolink worker dead-letters list'",
                extra={"payload_sha256": oldest},
            )

    def _size(self, name: str) -> int:
        path = self._path(name)
        return path.stat().st_size if path.exists() else 0

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.bin"

    def _note_path(self, name: str) -> Path:
        return self.directory / f"{name}.json"


def _write(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all.

    Without fsync: a power cut may cost the copy, and the edge keeps the frame itself. With it, a flood of bad frames
    would hold up the good ones on a slow disk.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
