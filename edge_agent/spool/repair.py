"""Sets a damaged spool aside and takes over what can be read of it; what cannot be read is named.

A journal beside the database says what is under way before the first file is renamed, so that a crash between any two steps is
gone on with at the next start. Frames are taken over in the order of their numbers, a few at a time; where the disk has no
room for all of them at once, the rest follows when the spool has delivered some.
"""

import json
import logging
import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from broker_config.messages import now
from edge_agent.spool.database import SpoolDatabase, is_full
from edge_agent.spool.findings import FoundPayload, SpoolFindings, signs
from edge_agent.spool.marks import SpoolMarks
from edge_agent.spool.reserve import SpoolReserve
from edge_agent.spool.rows import identity_mark, source_mark

__all__ = ["FILE_NAME", "SpoolRepair", "damaged_spools"]

logger = logging.getLogger(__name__)

FILE_NAME = "spool.sqlite"
_AT_ONCE = 32
_DONE = -1
_LOST = "the spool's disk or file was damaged, and this frame could not be read from it"
_LOST_AFTER = f"{_LOST}; it may have been published before, so it may be in the record all the same"
_PERHAPS = "the spool was damaged, and nothing in it tells whether this frame was delivered before or is lost with it"
_GONE = "the spool's database is gone; this frame was delivered before, or is lost with it"
_ROTTED = "the image in the spool no longer agrees with its checksum: the disk has changed it"


@dataclass(frozen=True)
class _Gone:
    """What is known of a lost frame.

    Its file may be taken again only if it was certainly never published: otherwise the record might get the picture twice,
    under two ids.
    """

    frame_id: str = ""
    case: str = ""
    reason: str = _LOST
    may_be_taken_again: bool = False


class SpoolRepair:
    """Repairs one spool. The spool's lock guards it.

    Args:
        database: The database; closed by `begin`, opened again by `go_on`.
        marks: The numbers given out.
        reserve: Tells whether there is room.
    """

    def __init__(self, database: SpoolDatabase, *, marks: SpoolMarks, reserve: SpoolReserve) -> None:
        self._database = database
        self._marks = marks
        self._reserve = reserve
        path = database.path
        self._journal = path.with_name(path.name + ".repair")
        self.sources_forgotten = 0

    @property
    def is_unfinished(self) -> bool:
        """Whether frames of a spool that was set aside are still to be taken over."""
        return self._journal.exists()

    def begin(self, why: str) -> None:
        """Set the damaged database aside, its connections closed.

        Raises:
            OSError: If the directory cannot be written.
        """
        path = self._database.path
        stem = f"{path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        name, count = stem, 1
        while path.with_name(name).exists():
            count += 1
            name = f"{stem}-{count}"
        self._write_journal([*self._read_journal(), {"aside": name, "why": why, "at": now().isoformat()}])
        self._set_aside(name)

    def go_on(self) -> bool:
        """Take over what can be read of every spool that was set aside; returns whether all of it is done.

        Raises:
            sqlite3.Error: If the new database cannot be used.
            OSError: If the directory cannot be written.
        """
        entries = self._read_journal()
        if entries and not self._database.is_open:
            self._set_aside(entries[-1]["aside"])  # a crash may have come before
            self._database.open()
        while entries:
            # Out of the log before it counts as done: damage to the log must not undo a repair.
            if not self._salvage(entries[0]) or not self._database.carry_over():
                return False
            entries = entries[1:]
            self._write_journal(entries)
        return True

    def name_missing(self) -> int:
        """Name the frames of a database that somebody has removed; returns how many they may be."""
        marks = self._marks.marks
        gone = {*marks.parked, *range(marks.low, marks.next)}
        self._database.write(
            lambda connection: self._name(connection, dict.fromkeys(gone, _Gone(reason=_GONE))), durable=True
        )
        return len(gone)

    # Setting aside

    def _set_aside(self, name: str) -> None:
        path = self._database.path
        with self._database.alone():
            if not path.with_name(name).exists():
                # The log first: a log that is left behind would be replayed into the new database.
                for suffix in ("-wal", ""):
                    part = path.with_name(path.name + suffix)
                    if part.exists():
                        part.rename(path.with_name(name + suffix))
                _sync_directory(path.parent)
            self._database.close(orderly=False)
            if not path.exists():
                path.with_name(path.name + "-shm").unlink(missing_ok=True)

    def _read_journal(self) -> list[dict[str, str]]:
        try:
            entries = json.loads(self._journal.read_text(encoding="utf-8"))
            return [{key: str(entry[key]) for key in ("aside", "why", "at")} for entry in entries]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError):
            left = damaged_spools(self._database.path.parent)
            return [{"aside": one.name, "why": "damaged", "at": now().isoformat()} for one in left[-1:]]

    def _write_journal(self, entries: list[dict[str, str]]) -> None:
        if not entries:
            self._journal.unlink(missing_ok=True)
            return
        draft = self._journal.with_name(self._journal.name + ".new")
        try:
            with draft.open("w", encoding="utf-8") as file:
                json.dump(entries, file)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            if not self._reserve.release():
                raise
            draft.write_text(json.dumps(entries), encoding="utf-8")
        draft.rename(self._journal)
        _sync_directory(self._journal.parent)

    # Taking over

    def _salvage(self, entry: dict[str, str]) -> bool:
        path = self._database.path.with_name(entry["aside"])
        if self._database.read("SELECT 1 FROM salvage WHERE aside = ? AND next = ?", (path.name, _DONE)):
            return True  # and a crash came before the journal said so
        with SpoolFindings(path) as found:
            cursor, high = self._start(entry["aside"], found)
            gone = self._gone(found, high)
            for numbers in _parts([one for one in found.payload_numbers if one >= cursor]):
                payloads = [one for number in numbers if (one := found.payload(number)) is not None]
                if not self._reserve.has_room_for(sum(len(one.payload) for one in payloads)):
                    logger.error(
                        "the disk has no room to take over all frames of %s: the rest follows when there is",
                        path.name,
                    )
                    return False
                try:
                    self._database.write(
                        lambda connection, part=payloads, end=numbers[-1] + 1: self._take(  # type: ignore[misc]
                            connection, found, part, aside=entry["aside"], end=end, gone=gone
                        ),
                        durable=True,
                    )
                except sqlite3.OperationalError as error:
                    if not is_full(error):
                        raise
                    return False
            self._database.write(
                lambda connection: self._finish(connection, entry["aside"], gone), durable=True
            )
        logger.error(
            "the spool %s was damaged (%s) and is set aside as %s; %d frames were read from it and are kept, %d are lost and "
            "named ('hemolink edge spool list'). Check the disk, then remove that file",
            self._database.path,
            entry["why"],
            path.name,
            *self._database.read("SELECT unsettled + parked, damaged FROM totals")[0],
        )
        return True

    def _high(self, found: SpoolFindings) -> int:
        """Return the first number that was certainly never given out."""
        marks = self._marks.marks
        said = found.next if not marks.reserved else min(found.next, marks.reserved)
        high = max(marks.next, said, max(signs(found), default=-1) + 1)
        return high if self._marks.is_exact else max(high, marks.reserved)

    def _start(self, aside: str, found: SpoolFindings) -> tuple[int, int]:
        """Note how far numbers were given out and which files were dealt with.

        Returns:
            The number to go on from, and the first that the damaged spool never gave out.
        """
        high = self._high(found)

        def start(connection: sqlite3.Connection) -> tuple[int, int]:
            known = connection.execute("SELECT next, high FROM salvage WHERE aside = ?", (aside,)).fetchone()
            if known is not None:
                return int(known[0]), int(known[1])
            connection.execute("INSERT INTO salvage VALUES (?, 0, ?)", (aside, high))
            connection.execute("UPDATE totals SET next = MAX(next, ?)", (high,))
            connection.executemany(
                "INSERT OR IGNORE INTO sources VALUES (?, ?, ?)",
                [(token, number, source_mark(token, number)) for token, number in found.sources.items()],
            )
            connection.executemany(
                "INSERT OR IGNORE INTO lost VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (one.sequence, one.mark, one.frame_id, one.case, one.lost_at, one.reason, one.told)
                    for one in found.losses.values()
                ],
            )
            return 0, high

        return self._database.write(start, durable=True)

    def _take(
        self,
        connection: sqlite3.Connection,
        found: SpoolFindings,
        payloads: list[FoundPayload],
        *,
        aside: str,
        end: int,
        gone: dict[int, _Gone],
    ) -> None:
        """Take over a few frames, and name those before ``end`` that cannot be."""
        for one in payloads:
            row = found.rows.get(one.sequence)
            identity = identity_mark(one.sequence, one.frame_id, one.priority, one.case, one.captured_at)
            state = (row.state, row.attempts, row.reason, row.notice) if row else ("waiting", 1, "", "")
            kept = connection.execute(
                "INSERT OR IGNORE INTO frames (sequence, mark, frame_id, priority, case_code, captured_at, bytes, state, "
                "attempts, reason, notice) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    one.sequence,
                    identity,
                    one.frame_id,
                    one.priority,
                    one.case,
                    one.captured_at,
                    len(one.payload),
                    *state,
                ),
            )
            if kept.rowcount:
                connection.execute(
                    "INSERT OR REPLACE INTO payloads VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        one.sequence,
                        one.mark,
                        one.frame_id,
                        one.priority,
                        one.case,
                        one.captured_at,
                        one.payload,
                    ),
                )
        (begin,) = connection.execute("SELECT next FROM salvage WHERE aside = ?", (aside,)).fetchone()
        self._name(connection, {number: gone[number] for number in range(begin, end) if number in gone})
        connection.execute("UPDATE salvage SET next = ? WHERE aside = ?", (end, aside))

    def _gone(self, found: SpoolFindings, high: int) -> dict[int, _Gone]:
        """Return what to say of each frame that was, or may have been, in the damaged spool, if it cannot be taken over."""
        gone = {number: _Gone(reason=_LOST_AFTER) for number in found.must_have_been if 0 <= number < high}
        # What was noted without a sync may be missing after a power cut, or in a log that was cut.
        states_are_new = self._marks.is_exact and self._marks.marks.next <= found.next
        for number, row in found.rows.items():
            unsent = states_are_new and row.state == "waiting" and row.attempts == 0
            gone[number] = _Gone(
                row.frame_id, row.case, _LOST if unsent else _LOST_AFTER, may_be_taken_again=unsent
            )
        low = self._marks.marks.low
        if found.frames_are_whole:
            low = max(low, found.next)
        elif not self._marks.marks.reserved:
            low = min(gone, default=high)
        for number in (*self._marks.marks.parked, *range(low, high)):
            if not found.frames_are_whole or number >= low:
                gone.setdefault(number, _Gone(reason=_PERHAPS))
        return gone

    def _finish(self, connection: sqlite3.Connection, aside: str, gone: dict[int, _Gone]) -> None:
        (begin,) = connection.execute("SELECT next FROM salvage WHERE aside = ?", (aside,)).fetchone()
        self._name(connection, {number: one for number, one in gone.items() if number >= begin})
        connection.execute("UPDATE salvage SET next = ? WHERE aside = ?", (_DONE, aside))

    def _name(self, connection: sqlite3.Connection, gone: dict[int, _Gone]) -> int:
        """Put into the list of the lost what is not in the spool; returns how many."""
        at = now().isoformat()
        count = 0
        for number in sorted(gone):
            if not connection.execute(
                "SELECT 1 FROM frames WHERE sequence = ?1 UNION ALL SELECT 1 FROM lost WHERE sequence = ?1",
                (number,),
            ).fetchone():
                self._list(connection, number, gone[number], at)
                count += 1
        return count

    def lose(
        self, connection: sqlite3.Connection, number: int, *, frame_id: str, case: str, unsent: bool
    ) -> None:
        """Move one frame, whose image has rotted, to the list of the lost.

        Args:
            connection: The database, in a transaction.
            number: The frame's number.
            frame_id: Its id.
            case: Its case.
            unsent: Whether it was certainly never published, so that its file may be taken again.
        """
        connection.execute("DELETE FROM frames WHERE sequence = ?", (number,))
        connection.execute("DELETE FROM payloads WHERE sequence = ?", (number,))
        reason = (
            _ROTTED
            if unsent
            else f"{_ROTTED}; it was published before, so it may be in the record all the same"
        )
        gone = _Gone(frame_id, case, reason, may_be_taken_again=unsent)
        self._list(connection, number, gone, now().isoformat())

    def _list(self, connection: sqlite3.Connection, number: int, gone: _Gone, at: str) -> None:
        mark = identity_mark(number, gone.frame_id, gone.case, at, gone.reason)
        connection.execute(
            "INSERT OR REPLACE INTO lost VALUES (?, ?, ?, ?, ?, ?, 0)",
            (number, mark, gone.frame_id, gone.case, at, gone.reason),
        )
        if gone.may_be_taken_again:
            forgotten = connection.execute("DELETE FROM sources WHERE sequence = ?", (number,))
            self.sources_forgotten += forgotten.rowcount


def damaged_spools(directory: Path) -> list[Path]:
    """Return the damaged spools that were set aside in a directory and wait for a person."""
    return sorted(
        path
        for path in Path(directory).glob(f"{FILE_NAME}.corrupt-*")
        if not path.name.endswith(("-wal", "-shm"))
    )


def _parts(numbers: list[int]) -> list[list[int]]:
    return [numbers[at : at + _AT_ONCE] for at in range(0, len(numbers), _AT_ONCE)]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
