"""Backing up a record that is in use.

The database is copied through SQLite's own backup, at one moment, while the dashboard goes on. The images it names are
copied after it: an image is never changed, and one that the record dropped meanwhile had no diagnosis. What a backup looks
like is in `backup_folder`; `restore` brings one back.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from broker_config.messages import now
from broker_config.process import write_durably
from clinician_dashboard.audit.anchor import Anchor
from clinician_dashboard.backup_folder import (
    DATABASE,
    FORMAT,
    FORMER,
    MANIFEST,
    Progress,
    sync,
    verified_copy,
)
from clinician_dashboard.errors import BackupError
from clinician_dashboard.record.faults import cause_of, remedy_of
from clinician_dashboard.record.images import ImageStore, hash_file
from clinician_dashboard.record.tables import RECORD_VERSION


@dataclass(frozen=True)
class BackupReport:
    """What a backup did.

    Attributes:
        images: Images that the backup holds.
        copied: Of those, copied now.
        bytes_copied: Their size with that of the database.
        dropped: Frames without a diagnosis whose image the record dropped meanwhile; they come again from the edges.
    """

    images: int
    copied: int
    bytes_copied: int
    dropped: int


def make_backup(source: Path, destination: Path, *, progress: Progress) -> BackupReport:
    """Back up the record in ``source`` into ``destination``; it may be in use.

    Args:
        source: The record's folder.
        destination: A folder that is empty, or holds a backup of an earlier time.
        progress: Told how far the images are.

    Raises:
        BackupError: If it cannot be made; a backup that was there before is still told from a broken one.
    """
    database = source / DATABASE
    if not database.is_file():
        raise BackupError(f"{source} holds no record ({DATABASE} is missing): name the record's folder")
    _check_destination(source, destination)
    try:
        destination.mkdir(parents=True, exist_ok=True)
        if (destination / MANIFEST).exists():
            (destination / MANIFEST).replace(destination / FORMER)
        partial = destination / f".{DATABASE}.partial"
        _copy_database(database, partial)
        named = dict(_images_named_by(partial))
        copied, size, lost = _copy_images(named, source, destination, progress=progress)
        dropped = _drop_unrecorded(partial, lost)
        for sha256 in lost:
            named.pop(sha256)
        sync(partial)
        audit_head = _audit_head(partial)
        partial.replace(destination / DATABASE)
        _forget_unnamed(destination, named)
        manifest = {
            "format": FORMAT,
            "made_at": now().isoformat(),
            "record_version": RECORD_VERSION,
            "database": {
                "bytes": (destination / DATABASE).stat().st_size,
                "sha256": hash_file(destination / DATABASE),
            },
            "audit": audit_head,
            "images": named,
        }
        write_durably(destination / MANIFEST, json.dumps(manifest).encode())
        (destination / FORMER).unlink(missing_ok=True)
    except OSError as error:
        raise BackupError(
            f"the backup could not be finished ({error.strerror or error}): {remedy_of(error)}; {destination} is not a whole "
            "backup until it is run again"
        ) from None
    except sqlite3.Error as error:
        raise BackupError(f"the record could not be read ({cause_of(error)}): {remedy_of(error)}") from None
    return BackupReport(len(named), copied, size + manifest["database"]["bytes"], dropped)  # type: ignore[index]


def back_up_images(server: Engine, source: Path, destination: Path, *, progress: Progress) -> BackupReport:
    """Back up the images of a record whose database is on a server; it may be in use.

    An image of a recorded frame is never removed, so whatever a dump names that was made before is in the backup.

    Args:
        server: Reaches the database.
        source: The record's folder.
        destination: A folder that is empty, or holds a backup of an earlier time.
        progress: Told how far the images are.

    Raises:
        BackupError: If it cannot be made.
    """
    _check_destination(source, destination)
    try:
        with server.connect() as connection:
            rows = connection.exec_driver_sql(
                "select image_sha256, max(image_bytes), count(recorded_at) from frames group by image_sha256"
            )
            found = {sha256: (size, recorded) for sha256, size, recorded in rows}
        destination.mkdir(parents=True, exist_ok=True)
        if (destination / MANIFEST).exists():
            (destination / MANIFEST).replace(destination / FORMER)
        named = {sha256: size for sha256, (size, _) in found.items()}
        copied, size, lost = _copy_images(named, source, destination, progress=progress)
        for sha256 in lost:
            if found[sha256][1]:
                raise BackupError(
                    f"the image {sha256} of a recorded frame is missing from the record: run 'hemolink dashboard verify'; an "
                    "older backup may still have it"
                )
            named.pop(sha256)
        manifest = {
            "format": FORMAT,
            "made_at": now().isoformat(),
            "record_version": RECORD_VERSION,
            "database": None,
            "images": named,
        }
        write_durably(destination / MANIFEST, json.dumps(manifest).encode())
        (destination / FORMER).unlink(missing_ok=True)
    except OSError as error:
        raise BackupError(
            f"the backup could not be finished ({error.strerror or error}): {remedy_of(error)}; {destination} is not a whole "
            "backup until it is run again"
        ) from None
    except SQLAlchemyError as error:
        raise BackupError(f"the record could not be read ({cause_of(error)}): {remedy_of(error)}") from None
    # Nothing is forgotten: an earlier dump may name what this database no longer does.
    return BackupReport(len(named), copied, size, len(lost))


def _check_destination(source: Path, destination: Path) -> None:
    if destination.resolve() == source.resolve() or source.resolve() in destination.resolve().parents:
        raise BackupError(
            f"{destination} lies in the record itself: name a folder outside it, best on another disk"
        )
    if not destination.exists():
        return
    known = {MANIFEST, FORMER, DATABASE, "images", f".{DATABASE}.partial"}
    strangers = sorted(path.name for path in destination.iterdir() if path.name not in known)
    if strangers:
        raise BackupError(
            f"{destination} holds something that is no backup ({strangers[0]}): name an empty folder"
        )


def _copy_database(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    with (
        contextlib.closing(
            sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=30)
        ) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        # One read transaction for the whole copy: without it every commit of the dashboard would begin the copy anew.
        old.execute("begin")
        old.execute("select count(*) from record_info").fetchone()
        old.backup(new, pages=-1)
        old.rollback()
        new.execute("pragma journal_mode=delete")
        (said,) = new.execute("pragma quick_check(1)").fetchone()
    if said != "ok":
        target.unlink(missing_ok=True)
        raise BackupError(
            f"the record is damaged ({said}): nothing was backed up; run 'hemolink dashboard verify'"
        )


def _images_named_by(database: Path) -> Iterator[tuple[str, int]]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        yield from connection.execute("select distinct image_sha256, image_bytes from frames order by 1")


def _copy_images(
    named: dict[str, int], source: Path, destination: Path, *, progress: Progress
) -> tuple[int, int, set[str]]:
    there, here = ImageStore(source / "images"), ImageStore(destination / "images")
    copied = size = 0
    lost: set[str] = set()
    for done, (sha256, length) in enumerate(named.items(), 1):
        target = here.path(sha256)
        if not (target.is_file() and target.stat().st_size == length and here.is_whole(sha256)):
            try:
                verified_copy(there.path(sha256), target, sha256)
            except BackupError:
                if there.path(sha256).exists():
                    raise
                lost.add(sha256)
            else:
                copied += 1
                size += length
        progress(done, len(named))
    return copied, size, lost


def _drop_unrecorded(database: Path, lost: set[str]) -> int:
    """Take frames out of the copy whose image was dropped meanwhile; only frames without a diagnosis may be.

    Raises:
        BackupError: If the image of a recorded frame is missing.
    """
    dropped = 0
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for sha256 in sorted(lost):
            recorded = connection.execute(
                "select frame_id from frames where image_sha256 = ? and recorded_at is not null", (sha256,)
            ).fetchone()
            if recorded:
                raise BackupError(
                    f"the image of the recorded frame {recorded[0]} is missing from the record: run 'hemolink dashboard "
                    "verify'; an older backup may still have it"
                )
            dropped += connection.execute("delete from frames where image_sha256 = ?", (sha256,)).rowcount
    return dropped


def _audit_head(database: Path) -> str | None:
    """Return the audit's newest row as a line, for ``verify-audit --at``; none where there is no audit yet."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        try:
            head = connection.execute(
                "select number, sha256 from audit order by number desc limit 1"
            ).fetchone()
        except sqlite3.OperationalError:  # of an earlier release
            return None
    return str(Anchor(*head)) if head else None


def _forget_unnamed(destination: Path, named: Iterable[str]) -> None:
    keep = set(named)
    for path in (destination / "images" / "sha256").glob("*/*/*"):
        if path.name not in keep:
            path.unlink()
