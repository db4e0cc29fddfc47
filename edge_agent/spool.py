"""The spool: every frame on disk until the far end has it.

One SQLite database in write-ahead mode, one row a frame (and its payload beside it). A frame is durable (synced to the disk)
before `Spool.add` returns. What the uplink notes about it afterwards (sent, diagnosed, deleted) is committed without a sync:
after a power cut it may be forgotten, the frame is then sent again, and the record knows it by its id. So a frame costs one
sync, and what it costs does not depend on how many others there are.

States::

    waiting --publish--> sent --receipt diagnosed--> diagnosed
       ^                  |                             |
       '---- resend ------'        receipt recorded: the row is deleted
    any of them --rejected, or too large for the broker--> parked (until a person retries or exports it)
    any of them --the disk has lost it--> named in the table of the lost, told to the far end, captured again if it was a file

Damage, at start or in use, is repaired (`edge_agent.spool_repair`); a full disk is survived (`edge_agent.spool_reserve`).
"""

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from broker_config.topics import PRIORITIES
from edge_agent.errors import SpoolFull, SpoolUnavailable
from edge_agent.spool_database import SpoolDatabase, damage, is_damage, is_full
from edge_agent.spool_marks import MAX_PARKED, SpoolMarks
from edge_agent.spool_record import (
    COLUMNS,
    LEASED,
    LOST_CODE,
    LostFrame,
    SpooledFrame,
    SpoolRow,
    SpoolTotals,
    State,
    Untold,
    identity_mark,
    payload_mark,
    source_mark,
)
from edge_agent.spool_repair import FILE_NAME, SpoolRepair, damaged_spools
from edge_agent.spool_reserve import SpoolReserve

__all__ = [
    "FILE_NAME",
    "LostFrame",
    "Spool",
    "SpoolRow",
    "SpoolTotals",
    "SpooledFrame",
    "Untold",
    "damaged_spools",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_RESERVE_BYTES = (
    16 * 1024 * 1024
)  # twice what the log grows to before it is carried over, and some large frames
_LOW_EVERY = 256
_TEND_EVERY_S = 5.0
_TOTALS = "SELECT unsettled, parked, bytes, damaged, untold, next FROM totals"
_DUE = (
    f"SELECT mark, due_at, {COLUMNS} FROM frames INDEXED BY frames_due WHERE state != 'parked' AND priority = ? "  # noqa: S608
    "AND epoch {epoch} AND frame_id NOT IN (SELECT value FROM json_each(?)) ORDER BY epoch, due_at, sequence LIMIT ?"
)
_OVERDUE = _DUE.format(epoch="< ?")
_DUE_BY_NOW = _DUE.format(epoch="= ? AND due_at <= ?")


class Spool:
    """The frames that the far end may not have yet. Any thread may call it.

    Args:
        path: The database; its directory is made.
        max_bytes: Bound of all payloads together.
        clock: Monotonic seconds; due times are in it, and mean nothing after a restart.
        reserve_bytes: Room kept on the disk so that receipts can be noted when it is full; 0 keeps none.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
        reserve_bytes: int = _RESERVE_BYTES,
    ) -> None:
        self._path = Path(path)
        self._max_bytes = max_bytes
        self._clock = clock
        self._database = SpoolDatabase(self._path)
        self._lock = self._database.lock
        self._marks = SpoolMarks(self._path.with_name("spool.marks"))
        self._reserve = SpoolReserve(self._path.parent, reserve_bytes)
        self._repair = SpoolRepair(self._database, marks=self._marks, reserve=self._reserve)
        self._totals = SpoolTotals(0, 0, 0)
        self._sequence = 0
        self._epoch = 1
        self._changes = 0
        self._low_is_stale = False
        self._attached = False
        self._tended_at = 0.0

    # Life

    def open(self) -> None:
        """Open and check; if damaged, set it aside and start fresh with whatever could be read.

        Raises:
            SpoolUnavailable: If the directory or the database cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpoolUnavailable(
                f"the spool's directory {self._path.parent} cannot be made ({error.strerror}): check its permissions"
            ) from None
        with self._lock:
            self._attached = False
            self._marks.load()
            self._reserve.ensure()
            try:
                self._open()
            except (sqlite3.Error, OSError) as error:
                self._database.close(orderly=False)
                raise self._unavailable(error) from None

    def attach(self) -> None:
        """Open a spool beside the agent that owns it: nothing is checked, set aside or rescheduled.

        Raises:
            SpoolUnavailable: If it cannot be read.
        """
        self._attached = True
        try:
            self._database.attach()
            self.recount()
        except (sqlite3.Error, OSError) as error:
            self._database.close()
            raise self._unavailable(error) from None

    def close(self) -> None:
        """Close the database; everything in it stays."""
        with self._lock:
            if self._database.is_open and not self._attached:
                self._note_low()
                self._database.shrink()
            self._database.close()
            if not self._attached:
                self._reserve.take_what_there_is()
                self._marks.close()

    def tend(self) -> None:
        """Do what waits for a better time: make the reserve again, go on with a repair, give room back. Call it often."""
        with self._lock:
            if self._attached or time.monotonic() < self._tended_at + _TEND_EVERY_S:
                return
            self._tended_at = time.monotonic()
            if self._totals.unsettled == 0 and self._database.is_open:
                self._database.shrink(keep_some=self._reserve.held)
            self._reserve.ensure()
            try:
                if not self._database.is_open:
                    self._open()
                elif self._repair.is_unfinished and self._repair.go_on():
                    self._refresh()
            except (sqlite3.Error, OSError) as error:
                logger.warning("%s", self._unavailable(error))

    # Capture side

    @property
    def next_sequence(self) -> int:
        """The number of the next frame; it never falls."""
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
            if not self._reserve.has_room_for(size, inside=self._database.free_bytes):
                raise SpoolUnavailable(
                    self._reserve.sentence
                    or f"the disk under the spool has no room for a frame of {size} bytes: make room in {self._path.parent}"
                )
            self._write(
                lambda connection: self._insert(connection, frame), durable=True, may_use_reserve=False
            )
            self._marks.given(self._sequence)
            self._count_change()

    def _insert(self, connection: sqlite3.Connection, frame: SpooledFrame) -> None:
        identity = frame.identity
        connection.execute(
            "INSERT INTO frames (sequence, mark, frame_id, priority, case_code, captured_at, bytes, epoch, due_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                frame.sequence,
                identity,
                frame.frame_id,
                frame.priority,
                frame.case,
                frame.captured_at,
                len(frame.payload),
                self._epoch,
                self._clock(),
            ),
        )
        connection.execute(
            "INSERT INTO payloads VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                frame.sequence,
                payload_mark(identity, frame.payload),
                frame.frame_id,
                frame.priority,
                frame.case,
                frame.captured_at,
                frame.payload,
            ),
        )
        if frame.source:
            _note_source(connection, frame.source, frame.sequence)

    def note_source(self, token: str) -> None:
        """Note a file that was dealt with though it gave no frame, so that it is not taken again."""
        if token:
            self._write(lambda connection: _note_source(connection, token, -1), durable=False)

    def has_source(self, token: str) -> bool:
        """Return whether a file was dealt with, in this run or an earlier one."""
        return bool(self._read("SELECT 1 FROM sources WHERE token = ?", (token,)))

    @property
    def sources_forgotten(self) -> int:
        """How many files must be taken again since their frames were lost; it only rises."""
        return self._repair.sources_forgotten

    # Uplink side

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Join the calls of this thread into one transaction; keep it short, others wait.

        Raises:
            SpoolUnavailable: At its end, if any part failed; then nothing of it was done.
        """
        with self._lock:
            try:
                with self._database.batch():
                    yield
            except BaseException as error:
                failure = error if isinstance(error, sqlite3.Error) else self._database.failure
                self._refresh()
                if self._database.in_batch or failure is None:
                    raise
                self._overcome(failure, may_use_reserve=True)
                self._refresh()
                raise self._unavailable(failure) from None

    def next_due(self, now: float, *, excluding: Collection[str] = (), limit: int = 1) -> list[SpoolRow]:
        """Return the frames to publish next, in their order: stat before routine, then the longest due.

        Args:
            now: Present time of the spool's clock.
            excluding: Ids to pass over.
            limit: At most so many.
        """
        passed_over = json.dumps(list(excluding))
        chosen: list[SpoolRow] = []
        for priority in PRIORITIES:
            found = self._read(_OVERDUE, (priority, self._epoch, passed_over, limit - len(chosen)))
            if len(chosen) + len(found) < limit:
                later = [
                    *self._read(_DUE_BY_NOW, (priority, self._epoch, now, passed_over, limit)),
                    *self._read(_DUE_BY_NOW, (priority, LEASED, now, passed_over, limit)),
                ]
                found += sorted(later, key=lambda row: (row[1], row[3]))[: limit - len(chosen) - len(found)]
            chosen += [self._checked(row[0], SpoolRow(*row[2:])) for row in found]
            if len(chosen) >= limit:
                break
        return chosen

    def next_due_at(self) -> float | None:
        """Return when the next frame falls due, or None when none will."""
        times: list[float] = []
        for priority in PRIORITIES:
            for epoch in (self._epoch, LEASED):
                found = self._read(
                    "SELECT due_at FROM frames INDEXED BY frames_due WHERE state != 'parked' AND priority = ? AND epoch = ? "
                    "ORDER BY due_at LIMIT 1",
                    (priority, epoch),
                )
                times += [row[0] for row in found]
            if self._read(
                "SELECT 1 FROM frames INDEXED BY frames_due WHERE state != 'parked' AND priority = ? AND epoch < ? LIMIT 1",
                (priority, self._epoch),
            ):
                return 0.0
        return min(times, default=None)

    @property
    def oldest_waiting(self) -> int | None:
        """The lowest number of a frame that is not parked; None when there is none."""
        found = self._read("SELECT sequence FROM frames WHERE state != 'parked' ORDER BY sequence LIMIT 1")
        return int(found[0][0]) if found else None

    def payload(self, frame_id: str) -> bytes | None:
        """Return a frame's payload, or None when it is settled, or was found to be lost (`untold` then names it)."""
        found = self._read(
            "SELECT f.sequence, f.case_code, f.attempts, p.mark, p.frame_id, p.priority, p.case_code, p.captured_at, p.payload "
            "FROM frames f LEFT JOIN payloads p USING (sequence) WHERE f.frame_id = ?",
            (frame_id,),
        )
        if not found:
            return None
        sequence, case, attempts, mark, *identity, payload = found[0]
        if payload is not None and payload_mark(identity_mark(sequence, *identity), payload) == mark:
            return bytes(payload)
        if self._attached:
            raise SpoolUnavailable(
                f"the image of frame {frame_id} no longer agrees with its checksum: check the disk"
            )
        # `mark_sent` comes before the payload is read: one attempt is the one that will not be made now.
        self._write(
            lambda connection: self._repair.lose(
                connection, sequence, frame_id=frame_id, case=case, unsent=attempts <= 1
            ),
            durable=True,
        )
        logger.error(
            "the image of a frame no longer agrees with its checksum: it is lost, and named; check the disk",
            extra={"frame_id": frame_id, "case": case},
        )
        return None

    def row(self, frame_id: str) -> SpoolRow | None:
        """Return what is known about a frame, or None when it is settled or was never here."""
        found = self._read(f"SELECT {COLUMNS} FROM frames WHERE frame_id = ?", (frame_id,))  # noqa: S608
        return SpoolRow(*found[0]) if found else None

    def mark_sent(self, frame_id: str, *, due_at: float) -> None:
        """Note one more publish, and when to publish again if nothing is heard."""
        self._update(
            "UPDATE frames SET attempts = attempts + 1, due_at = ?, epoch = MAX(epoch, ?), "
            "state = CASE state WHEN 'waiting' THEN 'sent' ELSE state END WHERE frame_id = ? AND state != 'parked'",
            (due_at, self._epoch, frame_id),
        )

    def mark_unsent(self, frame_id: str, *, due_at: float, left: bool = False) -> None:
        """Set when to publish again a frame of which nothing will be heard.

        Args:
            frame_id: The frame.
            due_at: When.
            left: Whether the publish may have left this machine; otherwise it is taken back.
        """
        taken_back = (
            ""
            if left
            else "attempts = MAX(attempts - 1, 0), state = CASE state WHEN 'sent' THEN 'waiting' ELSE state END, "
        )
        self._update(
            f"UPDATE frames SET {taken_back} due_at = ?, epoch = ? WHERE frame_id = ? AND state != 'parked'",  # noqa: S608
            (due_at, self._epoch, frame_id),
        )

    def mark_diagnosed(self, frame_id: str, *, due_at: float) -> bool:
        """Note that a worker has diagnosed it, and leave it alone until ``due_at``; return whether the frame was here."""
        return self._update(
            "UPDATE frames SET state = 'diagnosed', due_at = ?, epoch = ? WHERE frame_id = ? AND state != 'parked'",
            (due_at, LEASED, frame_id),
        )

    def set_due(self, frame_id: str, *, due_at: float) -> None:
        """Set when to publish a frame again."""
        self._update(
            "UPDATE frames SET due_at = ?, epoch = MAX(epoch, ?) WHERE frame_id = ?",
            (due_at, self._epoch, frame_id),
        )

    def hasten(self, *, due_at: float) -> None:  # noqa: ARG002 - all that is brought forward is due at once
        """Bring every resend forward, but those of diagnosed frames: somebody may be there again.

        What was due before stays in front. Nothing is written: due times of an earlier epoch are over.
        """
        with self._lock:
            self._epoch += 1

    def replace_payload(self, frame_id: str, payload: bytes) -> None:
        """Put a smaller payload in the place of a frame's own, durably."""

        def replace(connection: sqlite3.Connection) -> None:
            found = connection.execute(
                "SELECT sequence, mark FROM frames WHERE frame_id = ?", (frame_id,)
            ).fetchone()
            if found is None:
                return
            sequence, identity = found
            connection.execute(
                "UPDATE payloads SET payload = ?, mark = ? WHERE sequence = ?",
                (payload, payload_mark(identity, payload), sequence),
            )
            connection.execute("UPDATE frames SET bytes = ? WHERE sequence = ?", (len(payload), sequence))

        self._write(replace, durable=True)

    def settle(self, frame_id: str) -> bool:
        """Delete a frame that the far end has; return whether it was here.

        A frame that was held for lost, and not told yet, is not lost then.
        """

        def settle(connection: sqlite3.Connection) -> bool:
            found = connection.execute(
                "SELECT sequence FROM frames WHERE frame_id = ?", (frame_id,)
            ).fetchone()
            if found is None:
                gone = connection.execute("DELETE FROM lost WHERE told = 0 AND frame_id = ?", (frame_id,))
                return gone.rowcount > 0
            connection.execute("DELETE FROM frames WHERE sequence = ?", found)
            connection.execute("DELETE FROM payloads WHERE sequence = ?", found)
            return True

        settled = self._write(settle, durable=False)
        if settled:
            self._count_change()
        return settled

    def park(self, frame_id: str, *, reason: str, code: str = "") -> bool:
        """Keep a frame for a person; return whether it was here and not parked yet.

        Args:
            frame_id: The frame.
            reason: Why, in a sentence.
            code: The same, short and stable, if the far end must be told of it, as nobody there knows: see `untold`.
        """
        return self._update(
            "UPDATE frames SET state = 'parked', reason = ?, notice = ? WHERE frame_id = ? AND state != 'parked'",
            (reason[:2000], code, frame_id),
            durable=True,
        )

    # What the far end must be told

    def untold(self, limit: int = 100) -> list[Untold]:
        """Return the frames of which the far end must still be told, oldest first: lost, or parked by the edge itself."""
        nothing = sha256().hexdigest()
        found = [
            Untold(sequence, sequence, frame_id or None, case or None, LOST_CODE, reason, at, 1, 0, nothing)
            for sequence, frame_id, case, at, reason in self._read(
                "SELECT sequence, frame_id, case_code, lost_at, reason FROM lost WHERE told = 0 ORDER BY sequence LIMIT ?",
                (limit,),
            )
        ]
        for sequence, frame_id, case, at, code, reason, attempts, payload in self._read(
            "SELECT sequence, f.frame_id, f.case_code, f.captured_at, notice, reason, attempts, payload "
            "FROM frames f INDEXED BY frames_parked LEFT JOIN payloads USING (sequence) "
            "WHERE state = 'parked' AND notice != '' LIMIT ?",
            (limit,),
        ):
            data = bytes(payload or b"")
            tried, digest = max(attempts, 1), sha256(data).hexdigest()
            found.append(
                Untold(sequence, sequence, frame_id, case, code, reason, at, tried, len(data), digest)
            )
        return sorted(found, key=lambda one: one.id)[:limit]

    def mark_told(self, untold_id: int) -> bool:
        """Note that the far end has been told; return whether that was still to do. A power cut may undo it."""

        def note(connection: sqlite3.Connection) -> bool:
            lost = connection.execute(
                "UPDATE lost SET told = 1 WHERE sequence = ? AND told = 0", (untold_id,)
            ).rowcount
            parked = connection.execute(
                "UPDATE frames SET notice = '' WHERE sequence = ? AND notice != ''", (untold_id,)
            ).rowcount
            return lost + parked > 0

        return self._write(note, durable=False)

    # A person's side

    def rows(self, *, state: State | None = None, limit: int = 1000) -> list[SpoolRow]:
        """Return what is in the spool, oldest first, without payloads."""
        query = f"SELECT {COLUMNS} FROM frames"  # noqa: S608 - a constant
        if state is None:
            found = self._read(f"{query} ORDER BY sequence LIMIT ?", (limit,))
        else:
            found = self._read(f"{query} WHERE state = ? ORDER BY sequence LIMIT ?", (state, limit))
        return [SpoolRow(*row) for row in found]

    def lost(self, *, limit: int = 1000) -> list[LostFrame]:
        """Return the frames that the disk has lost, oldest first."""
        found = self._read(
            "SELECT sequence, frame_id, case_code, lost_at, reason, told FROM lost ORDER BY sequence LIMIT ?",
            (limit,),
        )
        return [
            LostFrame(row[0], row[1] or None, row[2] or None, row[3], row[4], bool(row[5])) for row in found
        ]

    def retry(self, frame_id: str) -> bool:
        """Take a parked frame back into the row; return whether it was parked."""
        return self._update(
            "UPDATE frames SET state = 'waiting', reason = '', notice = '', attempts = MIN(attempts, 1), epoch = 0, due_at = 0 "
            "WHERE frame_id = ? AND state = 'parked'",
            (frame_id,),
            durable=True,
        )

    def recount(self) -> SpoolTotals:
        """Look at the totals again: another process may have retried parked frames."""
        row = self._read(_TOTALS)[0]
        self._take_totals(row)
        return self._totals

    @property
    def totals(self) -> SpoolTotals:
        """How much is in the spool."""
        return self._totals

    @property
    def reserve_sentence(self) -> str:
        """What a person must know while the disk is so full that the spool lives on its reserve; empty otherwise."""
        if self._repair.is_unfinished:
            return self._reserve.sentence or (
                "frames of a damaged spool that was set aside wait for room on the disk: make room in "
                f"{self._path.parent}"
            )
        return self._reserve.sentence

    # Inside

    def _open(self) -> None:
        existed = any(
            part.exists() and part.stat().st_size
            for part in (self._path, self._path.with_name(self._path.name + "-wal"))
        )
        for _ in range(3):
            try:
                if self._repair.is_unfinished:
                    self._repair.go_on()
                else:
                    self._database.open(given=self._marks.marks.next if existed else 0)
                break
            except sqlite3.Error as error:
                if is_damage(error) or not isinstance(error, sqlite3.OperationalError):
                    self._repair.begin(str(error))
                elif self._reserve.release():
                    self._database.close(orderly=False)
                else:
                    raise
        else:
            raise damage("it could not be repaired")
        self._refresh()
        self._name_a_database_that_is_gone()
        self._begin_epoch()
        self._marks.start(self._sequence)
        self._note_low()

    def _name_a_database_that_is_gone(self) -> None:
        """Name what was in a database that somebody has removed."""
        marks = self._marks.marks
        if self._sequence < marks.next:
            count = self._repair.name_missing()
            if count:
                logger.error(
                    "the spool %s is gone, and with it up to %d frames: each is named", self._path, count
                )
            self._database.write(
                lambda connection: connection.execute("UPDATE totals SET next = MAX(next, ?)", (marks.next,)),
                durable=True,
            )
            self._refresh()

    def _begin_epoch(self) -> None:
        ((epoch,),) = self._database.read(
            "SELECT COALESCE(MAX(epoch), 0) FROM frames WHERE epoch < ?", (LEASED,)
        )
        self._epoch = epoch + 1
        if (
            not self._marks.is_exact
        ):  # marks that were not synced may be missing: each may have been published
            self._database.write(
                lambda connection: connection.execute("UPDATE frames SET attempts = 1 WHERE attempts = 0"),
                durable=False,
            )

    def _write(
        self, work: Callable[[sqlite3.Connection], T], *, durable: bool, may_use_reserve: bool = True
    ) -> T:
        def counted(connection: sqlite3.Connection) -> tuple[T, tuple[Any, ...]]:
            return work(connection), connection.execute(_TOTALS).fetchone()

        with self._lock:
            try:
                done, totals = self._database.write(counted, durable=durable)
            except sqlite3.Error as error:
                if self._database.in_batch:
                    raise self._unavailable(error) from None
                self._overcome(error, may_use_reserve=may_use_reserve)
                try:
                    done, totals = self._database.write(counted, durable=durable)
                except sqlite3.Error as again:
                    raise self._unavailable(again) from None
            self._take_totals(totals)
            if self._low_is_stale and not self._database.in_batch:
                self._low_is_stale = False
                self._note_low()
            return done

    def _read(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._database.read(query, values)
        except sqlite3.Error as error:
            with self._lock:
                if self._database.in_batch or not is_damage(error):
                    raise self._unavailable(error) from None
                self._overcome(error, may_use_reserve=False)
                try:
                    return self._database.read(query, values)
                except sqlite3.Error as again:
                    raise self._unavailable(again) from None

    def _update(self, statement: str, values: tuple[object, ...], *, durable: bool = False) -> bool:
        return self._write(
            lambda connection: connection.execute(statement, values).rowcount > 0, durable=durable
        )

    def _overcome(self, error: sqlite3.Error, *, may_use_reserve: bool) -> None:
        """Repair what is damaged, or make room; the caller tries once more then.

        Raises:
            SpoolUnavailable: If neither helps.
        """
        if self._attached:
            raise self._unavailable(error) from None
        if is_damage(error):
            try:
                self._repair.begin(str(error))
                self._open()
            except (sqlite3.Error, OSError) as again:
                self._database.close(orderly=False)
                raise self._unavailable(again) from None
        elif may_use_reserve and (self._reserve.release() or is_full(error)):
            self._database.checkpoint()  # a log that was carried over is written again from its start
        else:
            raise self._unavailable(error) from None

    def _checked(self, mark: int, row: SpoolRow) -> SpoolRow:
        if identity_mark(row.sequence, row.frame_id, row.priority, row.case, row.captured_at) == mark:
            return row
        with self._lock:
            error = damage(f"the row of frame {row.sequence} does not agree with its checksum")
            if self._database.in_batch:
                self._database.failure = error
            else:
                self._overcome(error, may_use_reserve=False)
            raise self._unavailable(error)

    def _refresh(self) -> None:
        if self._database.is_open:
            try:
                self._take_totals(self._database.read(_TOTALS)[0])
            except sqlite3.Error as error:
                logger.info("the spool's totals were not read: %s", error)

    def _take_totals(self, row: tuple[Any, ...]) -> None:
        before, self._totals = self._totals, SpoolTotals(*row[:5])
        self._sequence = max(self._sequence, row[5])
        self._low_is_stale |= before.parked != self._totals.parked

    def _count_change(self) -> None:
        self._changes += 1
        if self._changes % _LOW_EVERY == 0:
            self._note_low()

    def _note_low(self) -> None:
        """Note below which number nothing is needed any more, so that a repair need not wonder about it."""
        if self._attached or self._repair.is_unfinished:
            return
        parked = [
            row[0]
            for row in self._read(
                "SELECT sequence FROM frames INDEXED BY frames_parked WHERE state = 'parked' LIMIT ?",
                (MAX_PARKED + 1,),
            )
        ]
        found = self._read(
            "SELECT sequence FROM (SELECT sequence FROM frames WHERE state != 'parked' OR ? ORDER BY sequence LIMIT 1) "
            "UNION ALL SELECT sequence FROM (SELECT sequence FROM lost INDEXED BY lost_untold WHERE told = 0 ORDER BY sequence LIMIT 1)",
            (len(parked) > MAX_PARKED,),
        )
        low = min((row[0] for row in found), default=self._sequence)
        self._marks.needed_from(low, tuple(sorted(parked)[:MAX_PARKED]))

    def _unavailable(self, error: Exception) -> SpoolUnavailable:
        return SpoolUnavailable(
            f"the spool {self._path} cannot be used ({error}): make room on the disk, or see that it is writable and "
            "sound; frames already in it are kept"
        )


def _note_source(connection: sqlite3.Connection, token: str, sequence: int) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO sources VALUES (?, ?, ?)", (token, sequence, source_mark(token, sequence))
    )
