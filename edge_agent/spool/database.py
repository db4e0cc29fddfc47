"""The spool's SQLite database: two connections, transactions, and batches of them; no knowledge of frames.

Write-ahead mode. One connection writes, one only reads, so that looking for the next frame never waits while a new one is being
synced to the disk.
"""

import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from edge_agent.spool.migration import migrate
from edge_agent.spool.rows import COUNT_AGAIN, LEASED, SCHEMA, VERSION

__all__ = ["SpoolDatabase", "damage", "is_damage", "is_full"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_TIMEOUT_S = 10.0
_KEPT_FREE_PAGES = 4096  # 16 MiB, for the next frames
_CHEAP_PAGES = 4096
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_DAMAGE_EXTENDED = {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ}


class SpoolDatabase:
    """One open database. Any thread may call it.

    Args:
        path: The file.

    Attributes:
        lock: Held by whoever writes.
        failure: What spoilt the batch under way, or the last one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.RLock()
        self._reading = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._guard = -1
        self._depth = 0
        self._batch_thread = 0
        self._batch_durable = False
        self.failure: sqlite3.Error | None = None

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return self._writer is not None

    @property
    def in_batch(self) -> bool:
        """Whether the calling thread, which holds the lock, is inside `batch`."""
        return self._depth > 0

    def open(self, *, given: int = 0) -> None:
        """Open it, make or migrate its tables, check it whole, and count.

        Args:
            given: So many numbers were given out; a database that knows of fewer has lost the end of its log, which looks
                whole to SQLite.

        Raises:
            sqlite3.Error: If it is damaged or cannot be used; connections that were made stay until `close`.
        """
        with _legible():
            self._open(given)

    def _open(self, given: int) -> None:
        self._writer = writer = self._connect()
        if given:
            _compare(writer, given)  # before anything is written over what may still be readable in the log
        if not writer.execute("PRAGMA page_count").fetchone()[0]:
            writer.execute("PRAGMA page_size=4096")
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("PRAGMA journal_size_limit=67108864")
        check(writer)
        migrate(writer)
        writer.executescript(SCHEMA)
        writer.executescript(f"PRAGMA user_version={VERSION}")
        self.write(_count_again, durable=False)
        self._reader = self._connect()
        self._reader.execute("PRAGMA query_only=1")

    def attach(self) -> None:
        """Open it beside the agent that owns it: nothing is checked or changed.

        Raises:
            sqlite3.Error: If it cannot be read, or is of another release.
        """
        self._guard = os.open(self._guard_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._guard, fcntl.LOCK_SH)
        self._writer = self._connect()
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        if version != VERSION:
            raise sqlite3.OperationalError(
                f"it is of another release ({version}): start the edge, it converts it"
            )
        self._reader = self._connect()
        self._reader.execute("PRAGMA query_only=1")

    def close(self, *, orderly: bool = True) -> None:
        """Close both connections; what was committed stays."""
        with self.lock, self._reading:
            reader, self._reader = self._reader, None
            writer, self._writer = self._writer, None
            try:
                if reader is not None:
                    reader.close()
                if writer is not None:
                    if orderly and self._guard < 0:
                        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    writer.close()
            except sqlite3.Error as error:
                logger.warning("the spool could not be closed in order (%s); nothing in it is lost", error)
            if self._guard >= 0:
                os.close(self._guard)
                self._guard = -1

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep those that `attach` away: who closes a renamed database last deletes the log of the new one."""
        guard = os.open(self._guard_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(guard, fcntl.LOCK_EX)
            yield
        finally:
            os.close(guard)

    def read(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query; inside a batch, with what the batch has written.

        Raises:
            sqlite3.Error: As SQLite says.
        """
        if self._batch_thread == threading.get_ident():
            if self.failure is not None:
                raise self.failure
            with _legible():
                return _open(self._writer).execute(query, values).fetchall()
        with self._reading, _legible():
            return _open(self._reader).execute(query, values).fetchall()

    def write(self, work: Work[T], *, durable: bool) -> T:
        """Do ``work`` in one transaction, or as part of the batch of this thread.

        Args:
            work: Called once with the connection.
            durable: Whether it must be on the disk when this returns (in a batch: when the batch ends).

        Raises:
            sqlite3.Error: As SQLite says; then nothing of it was done, nor of the batch that it was part of.
        """
        with self.lock:
            writer = _open(self._writer)
            if self._depth:
                if self.failure is not None:
                    raise self.failure
                self._batch_durable |= durable
                try:
                    with _legible():
                        return work(writer)
                except sqlite3.Error as error:
                    self.failure = error
                    raise
            with _legible():
                return _transact(writer, work, durable=durable)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Join the writes of this thread into one transaction; nested ones join the outermost.

        Raises:
            sqlite3.Error: At the end, if any part failed; then nothing of it was done.
        """
        with self.lock:
            if self._depth:
                yield
                return
            writer = _open(self._writer)
            writer.execute("PRAGMA synchronous=NORMAL")
            writer.execute("BEGIN IMMEDIATE")
            self._depth, self._batch_thread = 1, threading.get_ident()
            self._batch_durable, self.failure = False, None
            try:
                yield
                if self.failure is not None:
                    raise self.failure
                # A pragma is not heard within a transaction: a batch that must last is synced by the next, empty one.
                writer.execute("COMMIT")
            finally:
                durable, self._batch_durable = self._batch_durable, False
                self._depth, self._batch_thread = 0, 0
                _roll_back(writer)
            if durable:
                _transact(writer, _touch, durable=True)

    def checkpoint(self) -> None:
        """Carry the log over into the database, as far as there is room."""
        try:
            _open(self._writer).execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error as error:
            logger.info("the spool's log was not carried over: %s", error)

    def carry_over(self) -> bool:
        """Carry the whole log over into the database, synced; returns whether that was possible.

        Raises:
            sqlite3.Error: As SQLite says.
        """
        with self.lock:
            writer = _open(self._writer)
            writer.execute("PRAGMA synchronous=FULL")
            (busy, _, _) = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy

    def shrink(self, *, keep_some: bool = True) -> None:
        """Give the disk back what an outage had filled, if little is left in the spool.

        Args:
            keep_some: Leave a file that is not large as it is, for the next frames.
        """
        try:
            writer = _open(self._writer)
            (free,) = writer.execute("PRAGMA freelist_count").fetchone()
            (pages,) = writer.execute("PRAGMA page_count").fetchone()
            if (
                not self._depth
                and free > (_KEPT_FREE_PAGES if keep_some else 0)
                and pages - free < _CHEAP_PAGES
            ):
                writer.execute("VACUUM")
                writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            logger.info("the spool's file was not made smaller: %s", error)

    @property
    def free_bytes(self) -> int:
        """Room in the file that deleted frames have left; 0 when it cannot be told."""
        try:
            return 4096 * int(_open(self._writer).execute("PRAGMA freelist_count").fetchone()[0])
        except sqlite3.Error:
            return 0

    # Inside

    @property
    def _guard_path(self) -> Path:
        return self.path.with_name(self.path.name + ".guard")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        connection.execute("PRAGMA recursive_triggers=0")
        return connection


def _compare(connection: sqlite3.Connection, given: int) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == VERSION:
        (next_,) = connection.execute("SELECT next FROM totals").fetchone() or (0,)
    elif connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
        return  # of an earlier release, which left no marks
    else:
        next_ = 0
    if next_ < given:
        raise damage(f"frames {next_} to {given - 1} are missing from its log")


def check(connection: sqlite3.Connection) -> None:
    """Read the whole database.

    Raises:
        sqlite3.DatabaseError: If a page makes no sense.
    """
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise damage(str(verdict))


def damage(what: str) -> sqlite3.DatabaseError:
    """Return an error that `is_damage` knows."""
    error = sqlite3.DatabaseError(what)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error says that the file makes no sense, rather than that it cannot be used now."""
    code = getattr(error, "sqlite_errorcode", None)
    text = str(error)
    if code is None:
        return text.startswith("Could not decode to UTF-8")
    return (
        code & 0xFF in _DAMAGE
        or code in _DAMAGE_EXTENDED
        or "malformed" in text
        or text.startswith("no such")
    )


@contextmanager
def _legible() -> Iterator[None]:
    """Python fails to read SQLite's own sentence where that quotes a damaged schema; that is damage too."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise damage(f"it says what is no text: {error.object[:80]!r}") from None


def is_full(error: sqlite3.Error) -> bool:
    """Return whether an error says that the disk is full."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF == sqlite3.SQLITE_FULL


def _open(connection: sqlite3.Connection | None) -> sqlite3.Connection:
    if connection is None:
        raise sqlite3.OperationalError("it is not open")
    return connection


def _transact(connection: sqlite3.Connection, work: Work[T], *, durable: bool) -> T:
    try:
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        connection.execute("BEGIN IMMEDIATE")
        done = work(connection)
        connection.execute("COMMIT")
        return done
    finally:
        _roll_back(connection)


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            logger.info("a transaction of the spool was not rolled back: %s", error)


def _touch(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE totals SET next = next")


def _count_again(connection: sqlite3.Connection) -> None:
    for statement in COUNT_AGAIN.strip().split(";\n"):
        connection.execute(statement)
    # What was leased by the clock of another life is due.
    connection.execute("UPDATE frames SET epoch = 0, due_at = 0 WHERE epoch >= ?", (LEASED,))
