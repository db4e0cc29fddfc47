"""Files that can be made again, kept on disk within a bound.

Two generations: what is made goes into the young one; when that holds half of the bound, the old one is removed whole and the
young one becomes the old. What is found in the old one only is moved over, so what is in use stays. Nothing is counted, sorted
or walked through, however many files there are. It lies beside the record and belongs to no backup.
"""

import logging
import os
import secrets
import shutil
import threading
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

END_OF_JPEG: Final = b"\xff\xd9"


class Cache:
    """JPEG files by name.

    Args:
        directory: Where; made by `start`. One process a directory.
        limit_bytes: The most that lies there, apart from what is just being written.
    """

    def __init__(self, directory: Path, *, limit_bytes: int) -> None:
        self._directory = Path(directory)
        self._limit = limit_bytes
        self._young_bytes = 0
        self._lock = threading.Lock()
        self._complained = False

    def start(self) -> None:
        """Begin a young generation; what the last run made becomes the old one. A disk that refuses costs speed only."""
        with self._lock:
            self._age()

    def get(self, name: str) -> bytes | None:
        """Return a file's content, or none where it is not here or not whole."""
        for generation in ("young", "old"):
            path = self._directory / generation / name
            try:
                content = path.read_bytes()
            except OSError:
                continue
            if not content.endswith(END_OF_JPEG):  # cut short when the power went
                path.unlink(missing_ok=True)
                continue
            if generation == "old":
                self.put(name, content)
            return content
        return None

    def put(self, name: str, content: bytes) -> None:
        """Keep a file. One that cannot be written is not kept, and the log says so once."""
        try:
            try:
                self._write(name, content)
            except FileNotFoundError:  # the folder grew old just now
                self._write(name, content)
        except OSError as error:
            if not self._complained:
                self._complained = True
                logger.warning(
                    "pictures cannot be kept in %s (%s): they are made anew each time",
                    self._directory,
                    error.strerror or error,
                )
            return
        with self._lock:
            self._young_bytes += len(content)
            if self._young_bytes > self._limit // 2:
                self._age()

    def _write(self, name: str, content: bytes) -> None:
        path = self._directory / "young" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _age(self) -> None:
        self._young_bytes = 0
        young, old = self._directory / "young", self._directory / "old"
        try:
            young.mkdir(parents=True, exist_ok=True)
            gone = self._directory / f"gone-{secrets.token_hex(4)}"
            if old.is_dir():
                old.rename(gone)
            young.rename(old)
            young.mkdir()
        except OSError as error:
            logger.warning(
                "the pictures in %s cannot be tidied (%s)", self._directory, error.strerror or error
            )
            return
        threading.Thread(target=self._remove_gone, name="cache", daemon=True).start()

    def _remove_gone(self) -> None:
        for path in self._directory.glob("gone-*"):
            shutil.rmtree(path, ignore_errors=True)

    @property
    def bytes_on_disk(self) -> int:
        """Walk through all of it and return its size; for tests and the curious."""
        return sum(
            (Path(folder) / name).stat().st_size
            for folder, _, names in os.walk(self._directory)
            for name in names
        )
