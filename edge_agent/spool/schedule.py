"""When each frame of the spool is published, and again: stat before routine, then the longest due."""

import json
import sqlite3
import time
from collections.abc import Callable, Collection
from pathlib import Path

from broker_config.topics import PRIORITIES
from edge_agent.spool.database import damage
from edge_agent.spool.keeper import SpoolKeeper
from edge_agent.spool.rows import COLUMNS, LEASED, SpoolRow, identity_mark

_DUE = (
    f"SELECT mark, due_at, {COLUMNS} FROM frames INDEXED BY frames_due WHERE state != 'parked' AND priority = ? "  # noqa: S608
    "AND epoch {epoch} AND frame_id NOT IN (SELECT value FROM json_each(?)) ORDER BY epoch, due_at, sequence LIMIT ?"
)
_OVERDUE = _DUE.format(epoch="< ?")
_DUE_BY_NOW = _DUE.format(epoch="= ? AND due_at <= ?")


class Schedule(SpoolKeeper):
    """The due times of the frames.

    Args:
        path: The database; its directory is made.
        clock: Monotonic seconds; due times are in it, and mean nothing after a restart.
        reserve_bytes: Room kept on the disk so that receipts can be noted when it is full.
    """

    def __init__(
        self, path: Path, *, clock: Callable[[], float] = time.monotonic, reserve_bytes: int
    ) -> None:
        super().__init__(path, reserve_bytes=reserve_bytes)
        self._clock = clock

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

    def _update(self, statement: str, values: tuple[object, ...], *, durable: bool = False) -> bool:
        return self._write(
            lambda connection: connection.execute(statement, values).rowcount > 0, durable=durable
        )

    def _checked(self, mark: int, row: SpoolRow) -> SpoolRow:
        if identity_mark(row.sequence, row.frame_id, row.priority, row.case, row.captured_at) == mark:
            return row
        with self._lock:
            again = self._read("SELECT mark, frame_id FROM frames WHERE sequence = ?", (row.sequence,))
            if again != [(mark, row.frame_id)]:
                raise self._unavailable(sqlite3.OperationalError("it was repaired meanwhile"))
            error = damage(f"the row of frame {row.sequence} does not agree with its checksum")
            if self._database.in_batch:
                self._database.failure = error
            else:
                self._overcome(error, may_use_reserve=False)
            raise self._unavailable(error)
