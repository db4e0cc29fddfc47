"""A command's way into a record: open it if nobody has it, or write beside the dashboard that does.

Only what stands in a transaction of its own and in no memory of the dashboard may be written beside it: users, tokens, the
audit. Both databases let such transactions stand in line, and the audit's chain is extended inside them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from clinician_dashboard.errors import RecordError, RecordInUse
from clinician_dashboard.record.database import Record
from clinician_dashboard.record.engines import Password, Tls, address_of, make_engine
from clinician_dashboard.record.faults import cause_of, remedy_of
from clinician_dashboard.record.upgrade import is_up_to_date


class Beside:
    """A record that a running dashboard has open.

    Args:
        engine: To its database; not the writer's.
        directory: The record's folder.
    """

    def __init__(self, engine: Engine, directory: Path) -> None:
        self._engine = engine
        self._directory = directory

    def session(self) -> Session:
        """Return a new session for reading; the caller closes it."""
        return Session(self._engine, expire_on_commit=False)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Give a session in a transaction, committed at the end of the block.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: If the database refuses; nothing of the block is in the record.
        """
        with (
            Session(self._engine, expire_on_commit=False, info={"directory": self._directory}) as session,
            session.begin(),
        ):
            if self._engine.dialect.name == "sqlite":
                session.connection().exec_driver_sql("begin immediate")
            yield session


@contextmanager
def open_or_join(
    url: str,
    directory: Path,
    *,
    password: Password = lambda: None,
    tls: Tls = lambda: None,
    told: Callable[[str], None] = lambda _said: None,
) -> Iterator[Record | Beside]:
    """Give the record: opened, and made if it is new, or joined beside the dashboard that has it.

    Args:
        url: Address of the database.
        directory: The record's folder.
        password: Gives the password of a server.
        tls: Gives the TLS context of a server.
        told: Is told which of the two it is, in a few words.

    Raises:
        RecordError: If it cannot be used.
    """
    record = Record(url, directory, password=password, tls=tls)
    try:
        record.start()
    except RecordInUse:
        pass
    else:
        told("the dashboard does not run")
        try:
            yield record
        finally:
            record.stop()
        return
    told("the dashboard is running, and need not be restarted")
    engine = make_engine(address_of(url), password=password, tls=tls)
    try:
        try:
            with engine.connect() as connection:
                current = is_up_to_date(connection, place=record.place)
        except SQLAlchemyError as error:
            raise RecordError(
                f"the record in {record.place} cannot be read ({cause_of(error)}): {remedy_of(error)}"
            ) from None
        if not current:
            raise RecordError(
                f"the record in {record.place} is of an earlier release, and another process has it: restart the dashboard with "
                "this release first"
            )
        yield Beside(engine, directory)
    finally:
        engine.dispose()
