"""Opening the record: engine, pragmas, schema version."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from broker_config.messages import now
from clinician_dashboard.errors import RecordError
from clinician_dashboard.record.images import ImageStore
from clinician_dashboard.record.tables import RECORD_VERSION, RecordInfo, Table

logger = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 2000


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
        self._engine: Engine | None = None

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
            RecordError: If it cannot be opened, is damaged, or was written by a newer release.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self.images.start()
        except OSError as error:
            raise RecordError(
                f"{self._directory}: the record's folder cannot be made ({error.strerror or error}): make it writable to "
                "this user, or name another under 'directory'"
            ) from None
        self._engine = create_engine(self._url)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _prepare_sqlite)
        try:
            if inspect(self._engine).has_table(RecordInfo.__tablename__):
                self._check_version()
            Table.metadata.create_all(self._engine)
            with self.session() as session, session.begin():
                if session.scalar(select(RecordInfo)) is None:
                    session.add(RecordInfo(version=RECORD_VERSION, created_at=now()))
        except SQLAlchemyError as error:
            self.stop()
            raise RecordError(
                f"the record in {self._directory} cannot be opened ({_cause(error)}): restore it from a backup, or name an "
                "empty folder under 'directory'; never delete the images beside it"
            ) from None

    def _check_version(self) -> None:
        with self.session() as session:
            version = session.scalar(select(RecordInfo.version))
        if version is not None and version > RECORD_VERSION:
            self.stop()
            raise RecordError(
                f"the record in {self._directory} is of version {version}, and this release reads up to {RECORD_VERSION}: "
                "use the release that wrote it, or a newer one"
            )

    def check(self) -> str:
        """Return ``ok``, or one sentence that says why the record cannot be read. Quick; for readiness."""
        try:
            with self.engine.connect() as connection:
                connection.execute(text("select 1"))
        except SQLAlchemyError as error:
            return f"the record cannot be read ({_cause(error)})"
        return "ok"

    def stop(self) -> None:
        """Close every connection."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None


def _cause(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0][:200]


def _prepare_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # WAL: readers never wait for the writer. FULL: a commit survives a power cut, since a receipt follows it.
    cursor.execute("pragma journal_mode=wal")
    cursor.execute("pragma synchronous=full")
    cursor.execute("pragma foreign_keys=on")
    cursor.execute(f"pragma busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.close()
