"""Keeps the spool's database usable: opens it, meets damage with repair and a full disk with the reserve, keeps its totals.

What a frame is and does is in `edge_agent.spool`; this only sees that its questions are answered and its changes made.
"""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from edge_agent.errors import SpoolUnavailable
from edge_agent.spool.database import SpoolDatabase, damage, is_damage, is_full
from edge_agent.spool.marks import MAX_PARKED, SpoolMarks
from edge_agent.spool.repair import SpoolRepair
from edge_agent.spool.reserve import SpoolReserve
from edge_agent.spool.rows import LEASED, SpoolTotals

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Twice what the log grows to before it is carried over, and some large frames.
RESERVE_BYTES = 16 * 1024 * 1024
_LOW_EVERY = 256
_TEND_EVERY_S = 5.0
_TOTALS = "SELECT unsettled, parked, bytes, damaged, untold, next FROM totals"


class SpoolKeeper:
    """The part of the spool that knows nothing of frames. Any thread may call it.

    Args:
        path: The database; its directory is made.
        reserve_bytes: Room kept on the disk so that receipts can be noted when it is full; 0 keeps none.
    """

    def __init__(self, path: Path, *, reserve_bytes: int) -> None:
        self._path = Path(path)
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

    @property
    def next_sequence(self) -> int:
        """The number of the next frame; it never falls."""
        return self._sequence

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
        ):  # `mark_sent` is not synced: after a power cut each may have been published
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
            if not is_damage(error):
                raise self._unavailable(error) from None
        with self._lock:
            try:
                return self._database.read(query, values)  # another thread may have repaired it meanwhile
            except sqlite3.Error as error:
                if self._database.in_batch:
                    raise self._unavailable(error) from None
                self._overcome(error, may_use_reserve=False)
            try:
                return self._database.read(query, values)
            except sqlite3.Error as error:
                raise self._unavailable(error) from None

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
