"""What a backup is: a folder, and how its files are known to be whole.

It holds ``record.sqlite``, ``images/`` as the record has them, and ``manifest.json``, written last, which names every file
with its size and SHA-256. A folder without a manifest is no backup. A later backup into the same folder copies only the
images that are not there yet; while it runs the former manifest is set aside as ``manifest.old.json``.

Where the database is on a server, the server's own ``pg_dump`` backs it up, and the backup holds the images only: its
manifest says ``"database": null``.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clinician_dashboard.errors import BackupError
from clinician_dashboard.record.tables import RECORD_VERSION

DATABASE = "record.sqlite"
MANIFEST = "manifest.json"
FORMER = "manifest.old.json"
FORMAT = 1
Progress = Callable[[int, int], None]
"""Told how many images are done, of how many."""


def read_manifest(backup: Path) -> dict[str, Any]:
    """Return a backup's manifest.

    Raises:
        BackupError: If the folder is no whole backup.
    """
    path = backup / MANIFEST
    if not path.is_file():
        former = (backup / FORMER).is_file()
        raise BackupError(
            f"{backup} is not a whole backup ({MANIFEST} is missing): "
            + (
                "a backup into it was interrupted; run 'hemolink dashboard backup' again"
                if former
                else "name another"
            )
        )
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        sound = manifest["format"] == FORMAT and isinstance(manifest["images"], dict)
        _ = manifest["database"] is None or manifest["database"]["sha256"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise BackupError(f"{path} cannot be read ({error}): use another backup") from None
    if not sound or manifest["record_version"] > RECORD_VERSION:
        raise BackupError(f"{path} was written by a newer release: use that release to restore it")
    return manifest


def verified_copy(source: Path, target: Path, sha256: str) -> None:
    """Copy a file durably; the copy has that hash, or there is none.

    Raises:
        BackupError: If the source is missing or has another hash.
        OSError: If it cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    digest = hashlib.sha256()
    try:
        with source.open("rb") as reader, partial.open("wb") as writer:
            while block := reader.read(1024 * 1024):
                digest.update(block)
                writer.write(block)
            writer.flush()
            os.fsync(writer.fileno())
        if digest.hexdigest() != sha256:
            raise BackupError(
                f"{source} is damaged: its content no longer has the SHA-256 that it should have; nothing was taken from it"
            )
        partial.replace(target)
    except FileNotFoundError:
        if source.exists():
            raise
        raise BackupError(f"{source} is missing") from None
    finally:
        partial.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or what a folder names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
