"""The image store: files named by the SHA-256 of their content, so that the same image is kept once."""

import hashlib
import re
from pathlib import Path

from broker_config.process import write_durably

_SHA256 = re.compile(r"[0-9a-f]{64}")


class ImageStore:
    """A folder of images below ``directory/sha256/ab/cd/``.

    Args:
        directory: Where the store lives; made by `start`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = Path(directory)

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

    def put(self, image: bytes) -> str:
        """Keep ``image`` durably and return its hash; a file that is there already is left alone.

        Raises:
            OSError: If it cannot be written; nothing is left behind.
        """
        sha256 = hashlib.sha256(image).hexdigest()
        path = self.path(sha256)
        if not (path.exists() and path.stat().st_size == len(image)):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, image)
        return sha256

    def remove(self, sha256: str) -> None:
        """Remove an image that no row names any more."""
        self.path(sha256).unlink(missing_ok=True)
