"""Opening the record: one writer, its version, its engines."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from clinician_dashboard.errors import RecordError
from clinician_dashboard.record.engines import Password, Tls, address_of, make_engine
from clinician_dashboard.record.faults import RESTORE, cause_of, is_damaged, remedy_of
from clinician_dashboard.record.folder_lock import FolderLock
from clinician_dashboard.record.images import ImageStore
from clinician_dashboard.record.upgrade import bring_up_to_date, is_up_to_date
from clinician_dashboard.record.writing import WritingSession

logger = logging.getLogger(__name__)

CHECKED_AT_START_BYTES = 256 * 1024 * 1024
"""Up to this size every page is looked at when the record is opened, which takes about a second; beyond, `verify` does."""


class Record:
    """The database and the images beside it.

    Args:
        url: Address of the database: ``sqlite:///path`` or ``postgresql://user@host/database``.
        directory: Where the images live, in ``images/``.
        password: Gives the password of a server, asked at each connection.
        tls: Gives the TLS context of a server that must be verified, likewise.

    Raises:
        RecordError: If ``url`` names no database that a record can live in.
    """

    def __init__(
        self,
        url: str,
        directory: Path,
        *,
        password: Password = lambda: None,
        tls: Tls = lambda: None,
    ) -> None:
        self._address = address_of(url)
        self._password = password
        self._tls = tls
        self._directory = Path(directory)
        self.images = ImageStore(self._directory / "images")
        self._lock = FolderLock(self._directory)
        self._engine: Engine | None = None
        self._writing: Engine | None = None
        self._inode = 0
        self._turn = threading.Lock()

    @property
    def file(self) -> Path | None:
        """The database file, or none where the database is no file."""
        database = self._address.database
        return Path(database) if self._address.get_backend_name() == "sqlite" and database else None

    @property
    def place(self) -> str:
        """Where the record is, for a message; without a password."""
        return str(self._directory) if self.file is not None else self._address.render_as_string()

    @property
    def engine(self) -> Engine:
        """The engine; only between `start` and `stop`."""
        if self._engine is None:
            raise RecordError("the record is not open: call start() first")
        return self._engine

    def session(self) -> Session:
        """Return a new session for reading; the caller closes it."""
        return Session(self.engine, expire_on_commit=False)

    def writing(self) -> Session:
        """Return a new session for writing; the caller closes it. One at a time: on PostgreSQL it has the writer's lock.

        What it does raises `RecordInUse` while another process has that lock.
        """
        return WritingSession(
            self._writing or self.engine, expire_on_commit=False, info={"directory": self._directory}
        )

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Give a session in a transaction that is committed at the end of the block, or rolled back if it raises.

        The only way to write: transactions of this process stand in line here, so what one has read is still so when it
        writes, and the audit's chain has no forks.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: If the database refuses; nothing of the block is in the record.
        """
        with self._turn, self.writing() as session, session.begin():
            if self.file is not None:
                # Python's driver begins with the first write, so that what was read before it might be old by then.
                session.connection().exec_driver_sql("begin immediate")
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """Give a session all of whose reads see the record as it was at one moment, whatever is committed meanwhile."""
        with self.session() as session:
            if self.engine.dialect.name == "sqlite":
                # Python's driver opens a transaction for writes only: each read alone would see its own moment.
                session.connection().exec_driver_sql("begin")
            else:
                session.connection().exec_driver_sql(
                    "set transaction isolation level repeatable read, read only"
                )
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
        try:
            self._engine = self._make_engine()
            self._writing = self._make_engine(writing=True) if self.file is None else self._engine
            self._open()
        except SQLAlchemyError as error:
            self.stop()
            what = "is damaged" if is_damaged(error) else "cannot be opened"
            raise RecordError(
                f"the record in {self.place} {what} ({cause_of(error)}): {remedy_of(error, directory=self._directory)}"
            ) from None
        except BaseException:
            self.stop()
            raise

    def _make_engine(self, *, writing: bool = False, patient: bool = False) -> Engine:
        return make_engine(
            self._address, password=self._password, tls=self._tls, writing=writing, patient=patient
        )

    def _open(self) -> None:
        if self.file is None:
            self._check_server()
        elif self.file.exists() and self.file.stat().st_size <= CHECKED_AT_START_BYTES:
            self._check_whole()
        with self.engine.connect() as connection:
            ready = is_up_to_date(connection, place=self.place)
        if not ready:
            self._upgrade()
        if self.file is not None:
            self._inode = self.file.stat().st_ino

    def _upgrade(self) -> None:
        engine = self.engine if self.file is not None else self._make_engine(patient=True)
        try:
            with engine.connect() as connection:
                if self.file is not None:
                    # The driver itself would let a schema change out, and a reader in.
                    connection.exec_driver_sql("begin immediate")
                bring_up_to_date(connection, place=self.place)
                connection.commit()
        finally:
            if engine is not self._engine:
                engine.dispose()

    def _check_server(self) -> None:
        """Take the writer's lock, for as long as the record is open, and look at what a server may be set to."""
        with self.writing() as session:
            encoding = session.scalar(text("show server_encoding"))
            durable = session.scalar(text("show fsync")) == "on"
        if encoding != "UTF8":
            raise RecordError(
                f"the database in {self.place} has the encoding {encoding}, which cannot hold every name: create it with the "
                "encoding UTF8"
            )
        if not durable:
            logger.warning(
                "the database server runs with fsync=off: a power cut there loses frames that the microscopes have deleted; "
                "set fsync=on"
            )

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
        for engine in (self._writing, self._engine):
            if engine is not None:
                engine.dispose()
        self._engine = self._writing = None
        self._lock.release()
