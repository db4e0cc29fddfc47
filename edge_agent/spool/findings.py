"""What a damaged spool still says: the frames it holds, those it must have held, and the files that were dealt with."""

import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from broker_config.topics import PRIORITIES
from edge_agent.spool.pages import Cell, PageReader, Value
from edge_agent.spool.rows import identity_mark, payload_mark, source_mark

_FRAME_COLUMNS = 13
_FRAME_PREFIX = (int, str, str, str, str, int, str, int, int, (int, float))
_PAYLOAD_COLUMNS = 7
_PAYLOAD_PREFIX = (int, str, str, str, str)
_LOST_COLUMNS = 7
_FRAME_ID = re.compile(r"[0-9a-f]{32}")
_STATES = ("waiting", "sent", "diagnosed", "parked")


@dataclass(frozen=True)
class FoundRow:
    """A row of ``frames`` whose checksum holds."""

    sequence: int
    frame_id: str
    priority: str
    case: str
    captured_at: str
    state: str
    attempts: int
    reason: str
    notice: str


@dataclass(frozen=True)
class FoundLoss:
    """A row of ``lost`` whose checksum holds."""

    sequence: int
    mark: int
    frame_id: str
    case: str
    lost_at: str
    reason: str
    told: int


@dataclass(frozen=True)
class FoundPayload:
    """A payload whose checksum holds, with the frame's identity."""

    sequence: int
    mark: int
    frame_id: str
    priority: str
    case: str
    captured_at: str
    payload: bytes


class SpoolFindings:
    """Reads a damaged spool, page by page, each row on its own. Use it in a with-block.

    Args:
        path: The database that was set aside.

    Attributes:
        rows: What is known of each frame, by its number.
        losses: The frames that were known to be lost before.
        sources: Each file that was dealt with, and the number of its frame (-1: none).
        traces: Numbers that only an index still names.
        next: The next number by the database's own account.
        frames_are_whole: Whether SQLite finds the table of frames sound, so that a number below ``next`` that is not in it
            was settled.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pages = PageReader(path)
        self._cells: dict[int, list[Cell]] = defaultdict(list)
        self.rows: dict[int, FoundRow] = {}
        self.losses: dict[int, FoundLoss] = {}
        self.sources: dict[str, int] = {}
        self.traces: set[int] = set()
        self._listed: set[int] = set()
        self.next = 0
        self.frames_are_whole = False
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        """Read everything but the payloads."""
        self._pages.__enter__()
        for beneath in (False, True):
            for cell in self._pages.cells(beneath=beneath):
                self._sort(cell, stale=beneath)
        # Stays open to the end: closing it would carry the log over into the database.
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        self._ask_sqlite(self._connection)
        return self

    def __exit__(self, *_: object) -> None:
        self._pages.__exit__(None, None, None)
        if self._connection is not None:
            with closing(self._connection):
                pass

    @property
    def payload_numbers(self) -> list[int]:
        """The numbers of the payloads that may be readable, in order; those settled are left out where that is known."""
        return sorted(one for one in self._cells if not self._is_settled(one))

    @property
    def must_have_been(self) -> set[int]:
        """The numbers of all frames of which there is any sign that they were in the spool."""
        return {
            one for one in (self.rows.keys() | self._cells.keys() | self.traces) if not self._is_settled(one)
        }

    def payload(self, sequence: int) -> FoundPayload | None:
        """Return a payload whose checksum holds, or None."""
        for cell in self._cells.get(sequence, ()):
            columns: Any = self._pages.whole(cell)
            if columns is None or len(columns) != _PAYLOAD_COLUMNS or not isinstance(columns[6], bytes):
                continue
            mark, frame_id, priority, case, captured_at, payload = columns[1:]
            identity = identity_mark(sequence, frame_id, priority, case, captured_at)
            if payload_mark(identity, payload) == mark:
                return FoundPayload(sequence, mark, frame_id, priority, case, captured_at, payload)
        return None

    # Inside

    def _is_settled(self, number: int) -> bool:
        """Whether a sound table of frames shows that a frame was settled; of later numbers it knows nothing."""
        return self.frames_are_whole and number < self.next and number not in self._listed

    def _sort(self, cell: Cell, *, stale: bool) -> None:
        """Put a row where it belongs, by its shape and its checksum."""
        columns = cell.columns
        if cell.rowid is None:
            self._sort_index(columns, stale=stale)
        elif _matches(columns[1:], _FRAME_PREFIX):
            found = self._pages.whole(cell) if len(columns) < _FRAME_COLUMNS else columns
            if not stale or cell.rowid not in self.rows:
                self._take_row(cell.rowid, found)
        elif len(columns) == _LOST_COLUMNS and columns[0] is None and isinstance(columns[6], int):
            if isinstance(columns[2], str):
                self._take_loss(cell.rowid, columns)
            elif cell.rowid == 1 and isinstance(columns[1], int):
                self.next = max(self.next, columns[1])  # the row of totals
        elif _matches(columns[1:], _PAYLOAD_PREFIX) and len(columns) <= _PAYLOAD_COLUMNS:
            self._cells[cell.rowid].append(cell)

    def _sort_index(self, columns: tuple[Value, ...], *, stale: bool) -> None:
        match columns:
            case (str(token), int(sequence), int(mark)) | (int(sequence), int(mark), str(token)):
                if source_mark(token, sequence) == mark:
                    self.sources[token] = sequence
            case (str(frame_id), int(sequence)) if _FRAME_ID.fullmatch(frame_id) or frame_id == "parked":
                if not stale:
                    self.traces.add(sequence)
            case (str(priority), int(), int() | float(), int(sequence)) if (
                priority in PRIORITIES and not stale
            ):
                self.traces.add(sequence)

    def _take_row(self, sequence: int, columns: Any) -> bool:
        if columns is None or len(columns) != _FRAME_COLUMNS:
            return False
        mark, frame_id, priority, case, captured_at, _, state, attempts, _, _, reason, notice = columns[1:]
        texts = (frame_id, priority, case, captured_at, state, reason, notice)
        if (
            not all(isinstance(one, str) for one in texts)
            or identity_mark(sequence, frame_id, priority, case, captured_at) != mark
        ):
            return False
        if state not in _STATES:
            state = "waiting"
        self.rows[sequence] = FoundRow(
            sequence, frame_id, priority, case, captured_at, state, max(int(attempts), 0), reason, notice
        )
        return True

    def _take_loss(self, sequence: int, columns: Any) -> None:
        mark, frame_id, case, lost_at, reason, told = columns[1:]
        if identity_mark(sequence, frame_id, case, lost_at, reason) == mark:
            self.losses[sequence] = FoundLoss(sequence, mark, frame_id, case, lost_at, reason, told)

    def _ask_sqlite(self, connection: sqlite3.Connection) -> None:
        """Where SQLite finds a table sound, what it says counts, and the deleted rows that lie about do not."""
        try:
            connection.execute("PRAGMA query_only=1")
            if not all(_is_sound(connection, table) for table in ("frames", "lost", "totals")):
                return
            columns = ", ".join(
                name for _, name, *_ in connection.execute("PRAGMA table_info(frames)").fetchall()
            )
            listed = connection.execute(f"SELECT {columns} FROM frames").fetchall()  # noqa: S608 - the table's own
            (self.next,) = connection.execute("SELECT next FROM totals").fetchone()
        except (sqlite3.Error, TypeError, UnicodeDecodeError):
            return
        seen, self.rows = self.rows, {}
        rotted = [row[0] for row in listed if not self._take_row(row[0], (None, *row[1:]))]
        self._listed = {row[0] for row in listed}
        # A rotted row whose payload is sound has its number right; else the number may be what has rotted.
        self.frames_are_whole = all(self.payload(number) is not None for number in rotted)
        if self.frames_are_whole:
            # Where the log was cut, pages behind the cut are newer than what SQLite sees.
            self.rows |= {number: row for number, row in seen.items() if not self._is_settled(number)}
        else:
            self.rows = seen | self.rows
            self.traces |= self._listed


def _is_sound(connection: sqlite3.Connection, table: str) -> bool:
    return bool(connection.execute(f"PRAGMA quick_check('{table}')").fetchone() == ("ok",))


def _matches(columns: tuple[Value, ...], types: tuple[Any, ...]) -> bool:
    return len(columns) >= len(types) and all(
        isinstance(one, kind) for one, kind in zip(columns, types, strict=False)
    )


def signs(findings: SpoolFindings) -> Iterator[int]:
    """Yield every number that a checksum vouches for."""
    yield from findings.rows
    yield from findings.losses
