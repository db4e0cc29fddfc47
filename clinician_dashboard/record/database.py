"""Opening the record: engine, pragmas, schema version."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, inspect, make_url, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from broker_config.messages import now
from clinician_dashboard.errors import RecordError
from clinician_dashboard.record.faults import RESTORE, cause_of, is_damaged, remedy_of
from clinician_dashboard.record.folder_lock import FolderLock
from clinician_dashboard.record.images import ImageStore
from clinician_dashboard.record.tables import RECORD_VERSION, RecordInfo, Table
from clinician_dashboard.record.upgrade import upgrade

logger = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 2000
CHECKED_AT_START_BYTES = 256 * 1024 * 1024
"""Up to this size every page is looked at when the record is opened, which takes about a second; beyond, `verify` does."""


class Record:
    """The database and the images beside it.

    Args:
        url: SQLAlchemy address of the database.
        directory: Where the images live, in ``images/``.
    """

    def __init__(self, url: str, directory: Path) -> None:
        self._url = url
        self._directory = Path(directory)
        self.images = ImageStore(self._directory / "images")
        self._lock = FolderLock(self._directory)
        self._engine: Engine | None = None
        self._inode = 0

    @property
    def file(self) -> Path | None:
        """The database file, or none where the database is no file."""
        url = make_url(self._url)
        return Path(url.database) if url.drivername.startswith("sqlite") and url.database else None

    @property
    def engine(self) -> Engine:
        """The engine; only between `start` and `stop`."""
        if self._engine is None:
            raise RecordError("the record is not open: call start() first")
        return self._engine

    def session(self) -> Session:
        """Return a new session; the caller closes it."""
        return Session(self.engine, expire_on_commit=False)

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """Give a session all of whose reads see the record as it was at one moment, whatever is committed meanwhile."""
        with self.session() as session:
            if self.engine.dialect.name == "sqlite":
                # Python's driver opens a transaction for writes only: each read alone would see its own moment.
                session.connection().exec_driver_sql("begin")
            else:
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session

    def start(self) -> None:
        """Open the record, making it if it is new.

        Raises:
            RecordError: If it cannot be opened, is damaged or in use, or was written by a newer release.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._lock.take()
            self._refuse_to_begin_anew()
            self.images.start()
        except OSError as error:
            self._lock.release()
            raise RecordError(
                f"{self._directory}: the record's folder cannot be used ({error.strerror or error}): {remedy_of(error)}"
            ) from None
        except RecordError:
            self._lock.release()
            raise
        self._engine = create_engine(self._url, hide_parameters=True)  # a log holds no patient's data
        if self.file is not None:
            event.listen(self._engine, "connect", _prepare_sqlite)
        try:
            self._open()
        except SQLAlchemyError as error:
            self.stop()
            what = "is damaged" if is_damaged(error) else "cannot be opened"
            raise RecordError(
                f"the record in {self._directory} {what} ({cause_of(error)}): {remedy_of(error, directory=self._directory)}"
            ) from None
        except BaseException:
            self.stop()
            raise

    def _open(self) -> None:
        if (
            self.file is not None
            and self.file.exists()
            and self.file.stat().st_size <= CHECKED_AT_START_BYTES
        ):
            self._check_whole()
        if inspect(self.engine).has_table(RecordInfo.__tablename__):
            self._check_version()
        Table.metadata.create_all(self.engine)
        with self.session() as session, session.begin():
            if session.scalar(select(RecordInfo)) is None:
                session.add(RecordInfo(version=RECORD_VERSION, created_at=now()))
        if self.file is not None:
            self._inode = self.file.stat().st_ino

    def _check_whole(self) -> None:
        with self.engine.connect() as connection:
            said = connection.exec_driver_sql("pragma quick_check(1)").scalar()
        if said != "ok":
            raise RecordError(f"the record in {self._directory} is damaged ({said}): {RESTORE}")

    def _refuse_to_begin_anew(self) -> None:
        """An empty record beside images would look like one in which nothing ever was."""
        if self.file is None or (self.file.exists() and self.file.stat().st_size):
            return
        if next((self._directory / "images" / "sha256").glob("*/*/*"), None) is not None:
            raise RecordError(
                f"{self.file} is gone, and the images of a record are still beside it: bring it back from a backup with "
                "'hemolink dashboard restore', or name an empty folder under 'directory'; never delete the images"
            )

    def _check_version(self) -> None:
        with self.session() as session:
            version = session.scalar(select(RecordInfo.version))
        if version is None or version == RECORD_VERSION:
            return
        if version > RECORD_VERSION:
            raise RecordError(
                f"the record in {self._directory} is of version {version}, and this release reads up to {RECORD_VERSION}: "
                "use the release that wrote it, or a newer one"
            )
        if self.file is None:
            raise RecordError(
                f"the record is of version {version}, and only a record in SQLite is brought to version {RECORD_VERSION} by "
                "itself: use the release that wrote it"
            )
        with self.engine.connect() as connection:
            connection.exec_driver_sql("begin immediate")  # the driver itself would let a schema change out
            upgrade(connection, version=version)
            connection.commit()

    def check(self) -> str:
        """Return ``ok``, or one sentence that says why the record cannot be read. Quick; for readiness."""
        try:
            if self.file is not None and self.file.stat().st_ino != self._inode:
                return f"{self.file} was replaced while it was in use: restart the dashboard"
            with self.engine.connect() as connection:
                connection.execute(text("select 1"))
        except FileNotFoundError:
            return f"{self.file} was removed while it was in use: stop the dashboard and restore it from a backup"
        except SQLAlchemyError as error:
            return f"the record cannot be read ({cause_of(error)}): {remedy_of(error)}"
        return "ok"

    def stop(self) -> None:
        """Close every connection."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None
        self._lock.release()


def _prepare_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # WAL: readers never wait for the writer. FULL: a commit survives a power cut, since a receipt follows it.
    cursor.execute("pragma journal_mode=wal")
    cursor.execute("pragma synchronous=full")
    cursor.execute("pragma foreign_keys=on")
    cursor.execute(f"pragma busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.close()
