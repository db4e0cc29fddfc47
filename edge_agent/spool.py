"""The spool: every frame on disk until the far end has it.

One SQLite database in write-ahead mode, one row a frame (and its payload beside it). A frame is durable (synced to the disk) before `Spool.add`
returns. What the uplink notes about it afterwards (sent, diagnosed, deleted) is committed without a sync: after a power
cut it may be forgotten, the frame is then sent again, and the record knows it by its id. So a frame costs one sync.

States::

    waiting --publish--> sent --receipt diagnosed--> diagnosed
       ^                  |                             |
       '---- resend ------'        receipt recorded: the row is deleted
    any of them --rejected, or too large for the broker--> parked (until a person retries or exports it)
"""

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from broker_config.topics import PRIORITIES
from edge_agent.errors import SpoolFull, SpoolUnavailable
from edge_agent.spool_record import COLUMNS, SCHEMA, SpooledFrame, SpoolRow, SpoolTotals, State

__all__ = ["FILE_NAME", "Spool", "SpoolRow", "SpoolTotals", "SpooledFrame", "damaged_spools"]

logger = logging.getLogger(__name__)

FILE_NAME = "spool.sqlite"
_KEPT_FREE_PAGES = 4096  # 16 MiB, for the next frames
_SHRINK_PAGES = 25_600  # 100 MiB at a time, so that nobody waits long


class Spool:
    """The frames that the far end may not have yet. Any thread may call it.

    Args:
        path: The database; its directory is made.
        max_bytes: Bound of all payloads together.
        clock: Monotonic seconds; due times are in it, and mean nothing after a restart.
    """

    def __init__(self, path: Path, *, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = Path(path)
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._totals = SpoolTotals(0, 0, 0)
        self._sequence = 0
        self._data_version = 0

    # Life

    def open(self) -> None:
        """Open, check and, if damaged, set aside and start fresh with whatever could be read.

        Raises:
            SpoolUnavailable: If the directory or the database cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpoolUnavailable(
                f"the spool's directory {self._path.parent} cannot be made ({error.strerror}): check its permissions"
            ) from None
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and not _is_damage(error):
                raise self._unavailable(error) from None
            self._set_aside(error)

    def attach(self) -> None:
        """Open a spool beside the agent that owns it: nothing is checked, set aside or rescheduled.

        Raises:
            SpoolUnavailable: If it cannot be read.
        """
        try:
            self._connection = self._connect()
            self.recount()
        except sqlite3.Error as error:
            raise self._unavailable(error) from None

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self._path, timeout=10.0, isolation_level=None, check_same_thread=False, cached_statements=64
        )

    def _open(self) -> None:
        connection = self._connect()
        try:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA journal_size_limit=67108864")
            _check(connection)
            connection.executescript(SCHEMA)
            connection.execute("UPDATE frames SET due_at = 0")  # the clock of another life
            self._sequence = _meta(connection, "sequence")
            unsettled, parked, size = connection.execute(
                "SELECT COUNT(*) FILTER (WHERE state != 'parked'), COUNT(*) FILTER (WHERE state = 'parked'), "
                "COALESCE(SUM(bytes), 0) FROM frames"
            ).fetchone()
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._totals = SpoolTotals(unsettled, parked, size)

    def _set_aside(self, error: sqlite3.Error) -> None:
        aside = self._path.with_name(
            f"{self._path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        )
        for suffix in ("", "-wal", "-shm"):
            part = self._path.with_name(self._path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        try:
            self._open()
        except sqlite3.Error as again:
            raise self._unavailable(again) from None
        saved = self._salvage(aside)
        logger.error(
            "the spool %s was damaged (%s) and is set aside as %s; %d frames could be read from it and are kept. "
            "Check the disk, then delete that file or have its frames recovered",
            self._path,
            error,
            aside.name,
            saved,
        )

    def _salvage(self, aside: Path) -> int:
        """Copy what can be read from a damaged spool; return how many frames."""
        saved = 0
        try:
            old = sqlite3.connect(aside)
            try:
                self._sequence = max(self._sequence, _meta(old, "sequence"))
                for row in old.execute(
                    "SELECT frame_id, sequence, priority, case_code, captured_at, payload FROM frames JOIN payloads USING (frame_id)"
                ):
                    self.add(SpooledFrame(*row))
                    saved += 1
            finally:
                old.close()
        except (sqlite3.Error, SpoolFull, SpoolUnavailable, TypeError) as error:
            logger.warning("the damaged spool could be read no further: %s", error)
        return saved

    def close(self) -> None:
        """Close the database; everything in it stays."""
        with self._lock:
            if self._connection is not None:
                try:
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    self._connection.close()
                except sqlite3.Error as error:
                    logger.warning(
                        "the spool could not be closed in order (%s); nothing in it is lost", error
                    )
                self._connection = None

    # Capture side

    @property
    def next_sequence(self) -> int:
        """The number of the next frame."""
        return self._sequence

    def add(self, frame: SpooledFrame) -> None:
        """Keep a frame; it is on the disk when this returns.

        Raises:
            SpoolFull: If it would exceed the spool's bound.
            SpoolUnavailable: If the disk is full, read-only or failing. Nothing of the frame was kept.
        """
        with self._lock:
            size = len(frame.payload)
            if self._totals.size + size > self._max_bytes:
                raise SpoolFull(
                    f"the spool holds {self._totals.size} of {self._max_bytes} bytes and a frame of {size} does not fit: "
                    "bring the broker and the workers back, or raise spool.max_bytes"
                )
            sequence = max(self._sequence, frame.sequence + 1)
            with self._transaction(durable=True) as connection:
                connection.execute(
                    "INSERT INTO frames (frame_id, sequence, priority, case_code, captured_at, bytes, due_at) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        frame.frame_id,
                        frame.sequence,
                        frame.priority,
                        frame.case,
                        frame.captured_at,
                        size,
                        self._clock(),
                    ),
                )
                connection.execute("INSERT INTO payloads VALUES (?, ?)", (frame.frame_id, frame.payload))
                connection.execute("INSERT OR REPLACE INTO meta VALUES ('sequence', ?)", (sequence,))
                if frame.source:
                    connection.execute("INSERT OR IGNORE INTO sources VALUES (?)", (frame.source,))
            self._sequence = sequence
            self._count(unsettled=1, size=size)

    def note_source(self, token: str) -> None:
        """Note a file that was dealt with though it gave no frame, so that it is not taken again."""
        if token:
            with self._transaction(durable=False) as connection:
                connection.execute("INSERT OR IGNORE INTO sources VALUES (?)", (token,))

    def has_source(self, token: str) -> bool:
        """Return whether a file was dealt with, in this run or an earlier one."""
        return bool(self._read("SELECT 1 FROM sources WHERE token = ?", (token,)))

    # Uplink side

    def next_due(self, now: float, *, excluding: Collection[str] = ()) -> SpoolRow | None:
        """Return the frame to publish next: stat before routine, then the longest due.

        Args:
            now: Present time of the spool's clock.
            excluding: Ids to pass over.
        """
        passed_over = json.dumps(list(excluding))
        for priority in PRIORITIES:
            found = self._read(
                f"SELECT {COLUMNS} FROM frames WHERE state != 'parked' AND priority = ? AND due_at <= ? "  # noqa: S608
                "AND frame_id NOT IN (SELECT value FROM json_each(?)) ORDER BY due_at, sequence LIMIT 1",
                (priority, now, passed_over),
            )
            if found:
                return SpoolRow(*found[0])
        return None

    def next_due_at(self) -> float | None:
        """Return when the next frame falls due, or None when none will."""
        ((due,),) = self._read("SELECT MIN(due_at) FROM frames WHERE state != 'parked'")
        return None if due is None else float(due)

    def payload(self, frame_id: str) -> bytes | None:
        """Return a frame's payload, or None when it is settled."""
        found = self._read("SELECT payload FROM payloads WHERE frame_id = ?", (frame_id,))
        return bytes(found[0][0]) if found else None

    def row(self, frame_id: str) -> SpoolRow | None:
        """Return what is known about a frame, or None when it is settled or was never here."""
        found = self._read(f"SELECT {COLUMNS} FROM frames WHERE frame_id = ?", (frame_id,))  # noqa: S608
        return SpoolRow(*found[0]) if found else None

    def mark_sent(self, frame_id: str, *, due_at: float) -> None:
        """Note one more publish, and when to publish again if nothing is heard."""
        self._update(
            "UPDATE frames SET attempts = attempts + 1, due_at = ?, "
            "state = CASE state WHEN 'waiting' THEN 'sent' ELSE state END WHERE frame_id = ? AND state != 'parked'",
            (due_at, frame_id),
        )

    def mark_unsent(self, frame_id: str, *, due_at: float) -> None:
        """Take one publish back: it did not reach the broker, or nobody was there to take it."""
        self._update(
            "UPDATE frames SET due_at = ?, attempts = MAX(attempts - 1, 0), state = CASE state WHEN 'sent' THEN 'waiting' ELSE state END "
            "WHERE frame_id = ? AND state != 'parked'",
            (due_at, frame_id),
        )

    def mark_diagnosed(self, frame_id: str, *, due_at: float) -> bool:
        """Note that a worker has diagnosed it; return whether the frame was here."""
        return self._update(
            "UPDATE frames SET state = 'diagnosed', due_at = ? WHERE frame_id = ? AND state != 'parked'",
            (due_at, frame_id),
        )

    def set_due(self, frame_id: str, *, due_at: float) -> None:
        """Set when to publish a frame again."""
        self._update("UPDATE frames SET due_at = ? WHERE frame_id = ?", (due_at, frame_id))

    def hasten(self, *, due_at: float) -> None:
        """Bring every resend forward: somebody may be there again."""
        self._update("UPDATE frames SET due_at = ? WHERE state != 'parked' AND due_at > ?", (due_at, due_at))

    def replace_payload(self, frame_id: str, payload: bytes) -> None:
        """Put a smaller payload in the place of a frame's own, durably."""
        with self._lock:
            row = self.row(frame_id)
            if row is None:
                return
            with self._transaction(durable=True) as connection:
                connection.execute("UPDATE payloads SET payload = ? WHERE frame_id = ?", (payload, frame_id))
                connection.execute("UPDATE frames SET bytes = ? WHERE frame_id = ?", (len(payload), frame_id))
            self._count(size=len(payload) - row.size)

    def settle(self, frame_id: str) -> bool:
        """Delete a frame that the far end has; return whether it was here."""
        with self._lock:
            row = self.row(frame_id)
            if row is None:
                return False
            with self._transaction(durable=False) as connection:
                connection.execute("DELETE FROM frames WHERE frame_id = ?", (frame_id,))
                connection.execute("DELETE FROM payloads WHERE frame_id = ?", (frame_id,))
            self._count(
                unsettled=-1 if row.state != "parked" else 0,
                parked=-1 if row.state == "parked" else 0,
                size=-row.size,
            )
            if self._totals.unsettled == 0 and self._totals.parked == 0:
                self._shrink()
            return True

    def park(self, frame_id: str, *, reason: str) -> bool:
        """Keep a frame for a person; return whether it was here and not parked yet."""
        parked = self._update(
            "UPDATE frames SET state = 'parked', reason = ? WHERE frame_id = ? AND state != 'parked'",
            (reason[:2000], frame_id),
            durable=True,
        )
        if parked:
            self._count(unsettled=-1, parked=1)
        return parked

    # A person's side

    def rows(self, *, state: State | None = None, limit: int = 1000) -> list[SpoolRow]:
        """Return what is in the spool, oldest first, without payloads."""
        found = self._read(
            f"SELECT {COLUMNS} FROM frames WHERE ? IS NULL OR state = ? ORDER BY sequence LIMIT ?",  # noqa: S608
            (state, state, limit),
        )
        return [SpoolRow(*row) for row in found]

    def retry(self, frame_id: str) -> bool:
        """Take a parked frame back into the row; return whether it was parked."""
        revived = self._update(
            "UPDATE frames SET state = 'waiting', reason = '', attempts = 0, due_at = 0 "
            "WHERE frame_id = ? AND state = 'parked'",
            (frame_id,),
            durable=True,
        )
        if revived:
            self._count(unsettled=1, parked=-1)
        return revived

    def recount(self) -> SpoolTotals:
        """Count again: another process may have retried parked frames."""
        with self._lock:
            ((unsettled, parked, size),) = self._read(
                "SELECT COUNT(*) FILTER (WHERE state != 'parked'), COUNT(*) FILTER (WHERE state = 'parked'), "
                "COALESCE(SUM(bytes), 0) FROM frames"
            )
            self._totals = SpoolTotals(unsettled, parked, size)
            return self._totals

    @property
    def totals(self) -> SpoolTotals:
        """How much is in the spool."""
        return self._totals

    # Inside

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise SpoolUnavailable(f"the spool {self._path} is not open")
        return self._connection

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        with self._lock:
            connection = self._open_connection()
            try:
                connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise self._unavailable(error) from None
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _read(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._open_connection().execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._unavailable(error) from None

    def _update(self, statement: str, values: tuple[object, ...], *, durable: bool = False) -> bool:
        with self._transaction(durable=durable) as connection:
            return connection.execute(statement, values).rowcount > 0

    def _count(self, *, unsettled: int = 0, parked: int = 0, size: int = 0) -> None:
        with self._lock:
            try:
                if self._changed_by_another():
                    self.recount()  # a person's command retried frames: what was known is no base to add to
                    return
            except (sqlite3.Error, SpoolUnavailable) as error:
                logger.warning("the spool could not be counted (%s): counted again later", error)
            now = self._totals
            self._totals = SpoolTotals(now.unsettled + unsettled, now.parked + parked, now.size + size)

    def _changed_by_another(self) -> bool:
        """Whether another connection has committed since the last look."""
        (version,) = self._open_connection().execute("PRAGMA data_version").fetchone()
        changed, self._data_version = version != self._data_version, version
        return bool(changed)

    def _shrink(self) -> None:
        """Give the disk back what an outage had filled."""
        try:
            connection = self._open_connection()
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            if free > _KEPT_FREE_PAGES:
                connection.executescript(
                    f"PRAGMA incremental_vacuum({_SHRINK_PAGES})"
                )  # execute() would free one
        except sqlite3.Error as error:
            logger.info("the spool's file was not made smaller: %s", error)

    def _unavailable(self, error: sqlite3.Error) -> SpoolUnavailable:
        return SpoolUnavailable(
            f"the spool {self._path} cannot be used ({error}): make room on the disk, or see that it is writable and "
            "sound; frames already in it are kept"
        )


def _meta(connection: sqlite3.Connection, name: str) -> int:
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row is not None else 0


def _check(connection: sqlite3.Connection) -> None:
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise sqlite3.DatabaseError(str(verdict))


def _is_damage(error: sqlite3.OperationalError) -> bool:
    return "malformed" in str(error) or "no such" in str(error)


def damaged_spools(directory: Path) -> list[Path]:
    """Return the damaged spools that were set aside in a directory and wait for a person."""
    return sorted(
        path
        for path in Path(directory).glob(f"{FILE_NAME}.corrupt-*")
        if not path.name.endswith(("-wal", "-shm"))
    )
