"""The frames that the far end may not have yet; the package's docstring tells of their states."""

import logging
import sqlite3
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from edge_agent.errors import SpoolFull, SpoolUnavailable
from edge_agent.spool.keeper import RESERVE_BYTES
from edge_agent.spool.rows import (
    COLUMNS,
    LOST_CODE,
    LostFrame,
    SpooledFrame,
    SpoolRow,
    State,
    Untold,
    identity_mark,
    payload_mark,
    source_mark,
)
from edge_agent.spool.schedule import Schedule

logger = logging.getLogger(__name__)


class Spool(Schedule):
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
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        super().__init__(path, clock=clock, reserve_bytes=reserve_bytes)
        self._max_bytes = max_bytes

    # Capture side

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

    # Inside


def _note_source(connection: sqlite3.Connection, token: str, sequence: int) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO sources VALUES (?, ?, ?)", (token, sequence, source_mark(token, sequence))
    )
