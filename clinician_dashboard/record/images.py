"""The image store: files named by the SHA-256 of their content, so that the same image is kept once."""

import hashlib
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from broker_config.process import write_durably
from clinician_dashboard.record.flushing import Flusher

_SHA256 = re.compile(r"[0-9a-f]{64}")
FEW = 3
WRITERS = 4


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ImageStore:
    """A folder of images below ``directory/sha256/ab/cd/``.

    Args:
        directory: Where the store lives; made by `start`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = Path(directory)
        self._flusher = Flusher(self._directory)

    def start(self) -> None:
        """Make the folder.

        Raises:
            OSError: If it cannot be made.
        """
        (self._directory / "sha256").mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Return where the image of that hash is, or would be."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError("an image is named by 64 hexadecimal digits")
        return self._directory / "sha256" / sha256[:2] / sha256[2:4] / sha256

    def put(self, image: bytes, sha256: str) -> bool:
        """Keep ``image`` durably under its hash; a whole file that is there already is left alone.

        Returns:
            Whether the image has that hash; otherwise nothing was kept.

        Raises:
            OSError: If it cannot be written; nothing is left behind.
        """
        if hashlib.sha256(image).hexdigest() != sha256:
            return False
        path = self.path(sha256)
        if not self.is_whole(sha256):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, image)
        return True

    def put_all(self, images: Mapping[str, bytes]) -> set[str]:
        """Keep several images durably, given by their hashes; the disk is waited for once for all of them.

        Until the disk has answered a file may be torn under its final name; no row names it yet, and when its image comes
        again it is looked at and written anew.

        Returns:
            The hashes that their image does not have.

        Raises:
            OSError: If one cannot be written.
        """
        if len(images) >= FEW and self._flusher.ready:
            wrong = {sha256 for sha256, image in images.items() if not self._lay(image, sha256)}
            self._flusher.flush()
            return wrong
        if len(images) < FEW:
            return {sha256 for sha256, image in images.items() if not self.put(image, sha256)}
        with ThreadPoolExecutor(WRITERS, thread_name_prefix="images") as pool:
            kept = pool.map(lambda one: (one[0], self.put(one[1], one[0])), images.items())
            return {sha256 for sha256, good in kept if not good}

    def _lay(self, image: bytes, sha256: str) -> bool:
        """Write ``image`` without waiting for the disk; false if it does not have that hash."""
        if hashlib.sha256(image).hexdigest() != sha256:
            return False
        path = self.path(sha256)
        if self.is_whole(sha256):
            return True
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{sha256}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(image)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return True

    def is_whole(self, sha256: str) -> bool:
        """Return whether the image of that hash is here, and its content has that hash."""
        try:
            return hash_file(self.path(sha256)) == sha256
        except FileNotFoundError:
            return False

    def remove(self, sha256: str) -> None:
        """Remove an image that no row names any more."""
        self.path(sha256).unlink(missing_ok=True)
