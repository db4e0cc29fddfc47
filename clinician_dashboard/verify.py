"""Looking at every row and every image of a record: ``hemolink dashboard verify``."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from broker_config.messages import now
from clinician_dashboard.errors import RecordError
from clinician_dashboard.record.faults import cause_of, remedy_of
from clinician_dashboard.record.folder_lock import FolderLock
from clinician_dashboard.record.images import ImageStore, hash_file
from clinician_dashboard.record.missing import Missing, find_missing
from clinician_dashboard.record.tables import RECORD_VERSION
from clinician_dashboard.record.upgrade import version_of

_Images = dict[str, tuple[str, bool]]
"""Every image that is named, with a frame of it and whether that is recorded."""

ORPHAN_AGE_S = 3600.0
"""A younger file may belong to a transaction that is not committed yet."""

NAMED = 20
NOT_LOOKED_AT = "not looked at: 'pg_amcheck' at the server looks into its files"


@dataclass
class Verdict:
    """What was found. Lists hold the first twenty; counts are whole.

    Attributes:
        database: What SQLite finds wrong with the file, empty if nothing.
        note_on_database: What was not looked at.
        frames: Rows of frames.
        recorded: Of those, recorded ones.
        images: Images looked at.
        absent: Frames whose image is not there.
        altered: Images whose content has another hash than their name.
        unanswered: Recorded frames without a diagnosis.
        orphans: Image files that no frame names, old enough to be left over.
        removed: Of those, removed now.
        missing: What of each device's frames never came, or may still.
    """

    database: str = ""
    note_on_database: str = ""
    frames: int = 0
    recorded: int = 0
    images: int = 0
    absent: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    removed: int = 0
    missing: list[Missing] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether nothing of the record is damaged, absent or lost; orphans alone are harmless."""
        trouble = self.database or self.absent or self.altered or self.unanswered
        return not trouble and not any(one.count for one in self.missing)

    def note(self, name: str, what: str) -> None:
        """Count one finding, and name it if it is among the first."""
        self.counts[name] = self.counts.get(name, 0) + 1
        listed: list[str] = getattr(self, name)
        if len(listed) < NAMED:
            listed.append(what)

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as a JSON object."""
        return {
            "sound": self.sound,
            "database": self.database or self.note_on_database or "ok",
            "frames": self.frames,
            "recorded": self.recorded,
            "images": self.images,
            **{
                name: {"count": self.counts.get(name, 0), "first": getattr(self, name)}
                for name in ("absent", "altered", "unanswered", "orphans")
            },
            "orphans_removed": self.removed,
            "missing": [
                {"site": one.site, "device": one.device, "count": one.count, "numbers": list(one.spans)}
                for one in self.missing
                if one.count
            ],
            "on_the_way": sum(one.on_the_way for one in self.missing),
        }


def verify(
    directory: Path,
    *,
    progress: Callable[[int, int], None],
    remove_orphans: bool = False,
    server: Engine | None = None,
) -> Verdict:
    """Look at the whole record; it may be in use.

    Args:
        directory: The record's folder.
        progress: Told how many images are done, of how many.
        remove_orphans: Remove image files that no frame names, older than an hour; the record must not be in use.
        server: Reaches the database where it is no file in the folder.

    Raises:
        RecordError: If there is no record, or it cannot be read at all.
        RecordInUse: If orphans are to be removed while a dashboard runs: it may just be adopting one.
    """
    lock = FolderLock(directory)
    if remove_orphans and directory.is_dir():
        lock.take()
    try:
        verdict, began = Verdict(), time.time()
        read = _rows_of_a_file(directory, verdict) if server is None else _rows_at(server, verdict)
        if read is not None:
            images, verdict.missing = read
            _check_images(directory, images, verdict, progress=progress)
            _find_orphans(directory, images, verdict, before=began - ORPHAN_AGE_S, remove=remove_orphans)
        return verdict
    finally:
        lock.release()


def _rows_at(server: Engine, verdict: Verdict) -> tuple[_Images, list[Missing]]:
    verdict.note_on_database = NOT_LOOKED_AT
    try:
        with Session(server) as session:
            connection = session.connection()
            connection.exec_driver_sql("set transaction isolation level repeatable read, read only")
            version = version_of(connection)
            if version is None:
                raise RecordError("the database of database_url holds no record: start the dashboard once")
            _check_version(version)
            images = _read_rows(connection.exec_driver_sql, verdict)
            return images, find_missing(session, now=now())
    except SQLAlchemyError as error:
        raise RecordError(f"the record cannot be read ({cause_of(error)}): {remedy_of(error)}") from None


def _rows_of_a_file(directory: Path, verdict: Verdict) -> tuple[_Images, list[Missing]] | None:
    database = directory / "record.sqlite"
    if not database.is_file():
        raise RecordError(f"{directory} holds no record (record.sqlite is missing): name the record's folder")
    try:
        connection = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=30)
        with contextlib.closing(connection):
            found = [row[0] for row in connection.execute("pragma integrity_check(5)")]
            verdict.database = "" if found == ["ok"] else "; ".join(found)
            (version,) = connection.execute("select version from record_info").fetchone()
            _check_version(version)
            images = _read_rows(connection.execute, verdict)
    except sqlite3.Error as error:
        verdict.database = f"{cause_of(error)}: {remedy_of(error)}"
        return None
    return images, _missing(database)


def _check_version(version: int) -> None:
    if version != RECORD_VERSION:
        raise RecordError(
            f"the record is of version {version} and this release's is {RECORD_VERSION}: start the dashboard once, or use the "
            "release that wrote it"
        )


def _read_rows(execute: Callable[[str], Iterable[Any]], verdict: Verdict) -> _Images:
    images: _Images = {}
    rows = execute("select frame_id, image_sha256, recorded_at is not null from frames")
    for frame_id, sha256, recorded in rows:
        verdict.frames += 1
        verdict.recorded += recorded
        if sha256 not in images or recorded:
            images[sha256] = (frame_id, bool(recorded))
    unanswered = execute(
        "select frame_id from frames where recorded_at is not null and not exists "
        "(select 1 from diagnoses where diagnoses.frame_id = frames.frame_id and joined)"
    )
    for (frame_id,) in unanswered:
        verdict.note("unanswered", frame_id)
    return images


def _check_images(
    directory: Path,
    images: _Images,
    verdict: Verdict,
    *,
    progress: Callable[[int, int], None],
) -> None:
    store = ImageStore(directory / "images")
    for done, (sha256, (frame_id, recorded)) in enumerate(images.items(), 1):
        try:
            if hash_file(store.path(sha256)) != sha256:
                verdict.note("altered", f"{frame_id} ({store.path(sha256)})")
        except OSError:
            if recorded:  # one without a diagnosis may have been dropped while this ran
                verdict.note("absent", f"{frame_id} ({store.path(sha256)})")
        verdict.images += 1
        progress(done, len(images))


def _find_orphans(directory: Path, images: _Images, verdict: Verdict, *, before: float, remove: bool) -> None:
    root = directory / "images" / "sha256"
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            if name in images:
                continue
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime > before:
                    continue
                verdict.note("orphans", str(path.relative_to(directory)))
                if remove:
                    path.unlink()
                    verdict.removed += 1


def _missing(database: Path) -> list[Missing]:
    engine = create_engine(f"sqlite:///{database}", hide_parameters=True)
    try:
        with Session(engine) as session:
            return find_missing(session, now=now())
    except SQLAlchemyError as error:
        raise RecordError(f"the ledger cannot be read ({cause_of(error)}): {remedy_of(error)}") from None
    finally:
        engine.dispose()
