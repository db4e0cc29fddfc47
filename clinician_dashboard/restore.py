"""Bringing a backup back, every hash checked."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from clinician_dashboard.audit.anchor import FILE as ANCHOR
from clinician_dashboard.audit.anchor import Anchor, write_anchor
from clinician_dashboard.backup_folder import DATABASE, Progress, read_manifest, sync, verified_copy
from clinician_dashboard.errors import BackupError
from clinician_dashboard.record.faults import remedy_of
from clinician_dashboard.record.folder_lock import FolderLock
from clinician_dashboard.record.images import ImageStore

AFTER_A_RESTORE = (
    "Frames that were recorded after this backup were deleted at the microscopes when their receipts came: no command brings "
    "them back. The record will say which they are: as soon as it runs and each microscope has spoken, 'Needs a person' and "
    "'hemolink dashboard verify' name every number above the restored ones that does not come."
)


def restore(
    backup: Path, destination: Path, *, progress: Progress, on_a_server: bool = False
) -> dict[str, Any]:
    """Bring a backup back into a folder without a record, checking every hash; return its manifest.

    Images that are there already stay, whether the backup names them or not: they are named by their content.

    Args:
        backup: A folder that `make_backup` filled.
        destination: The record's folder: absent, or without a database.
        progress: Told how far the images are.
        on_a_server: Only the images are brought back; the database is the server's.

    Raises:
        RecordInUse: If a dashboard runs on ``destination``.
        BackupError: If the backup is not whole, or ``destination`` holds a database; no record is there then.
    """
    manifest = read_manifest(backup)
    if on_a_server != (manifest["database"] is None):
        kind = (
            "no database: it is of a record on a server"
            if manifest["database"] is None
            else "a SQLite database"
        )
        raise BackupError(f"{backup} holds {kind}, and the settings name another kind: see database_url")
    there = [path.name for path in sorted(destination.glob(f"{DATABASE}*"))]
    if there:
        raise BackupError(
            f"{destination} holds a record already ({', '.join(there)}), and a restore never overwrites one: stop the "
            "dashboard and move those files away (keep them: what was recorded after the backup is only there), then run "
            "this again; the images may stay"
        )
    lock = FolderLock(destination)
    store, kept = ImageStore(backup / "images"), ImageStore(destination / "images")
    partial = destination / ".restoring.sqlite"
    try:
        destination.mkdir(parents=True, exist_ok=True)
        lock.take()
        if not on_a_server:
            verified_copy(backup / DATABASE, partial, manifest["database"]["sha256"])
            _end_sessions(partial)
        images: dict[str, int] = manifest["images"]
        for done, sha256 in enumerate(images, 1):
            if not kept.is_whole(sha256):
                verified_copy(store.path(sha256), kept.path(sha256), sha256)
            progress(done, len(images))
        if not on_a_server:
            if manifest.get("audit") and not (destination / ANCHOR).exists():
                # One that lies there knows of what was done after the backup, and says so by itself.
                write_anchor(destination, Anchor.parse(manifest["audit"]))
            partial.replace(destination / DATABASE)  # last: without it there is no record
        sync(destination)
    except OSError as error:
        raise BackupError(
            f"{destination} could not be filled ({error.strerror or error}): {remedy_of(error)}; there is no record there yet: "
            "run this again"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
        lock.release()
    return manifest


def _end_sessions(database: Path) -> None:
    """Sign everybody out of a copy that is brought back: who was signed out since then stays so."""
    with (
        contextlib.closing(sqlite3.connect(database)) as connection,
        contextlib.suppress(sqlite3.OperationalError),  # of an earlier release
        connection,
    ):
        connection.execute("delete from sessions")
