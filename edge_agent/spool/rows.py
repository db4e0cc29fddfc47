"""What the spool holds: its tables, their checksums, and what it takes in and tells of a frame.

SQLite has no checksum of its pages, so each row carries one. That of a payload covers the frame's identity too, so that a
payload alone is enough to know whose it is, whatever else of the database is damaged.
"""

import zlib
from dataclasses import dataclass, field
from typing import Literal

from broker_config.topics import Priority

State = Literal["waiting", "sent", "diagnosed", "parked"]

VERSION = 2
"""``PRAGMA user_version`` of the schema below; 0 is the first release's."""

SCHEMA = """
-- Numbered by the device's own sequence, which never repeats: frames come at one end and go at the other.
CREATE TABLE IF NOT EXISTS frames (
    sequence INTEGER PRIMARY KEY,
    mark INTEGER NOT NULL,
    frame_id TEXT NOT NULL UNIQUE,
    priority TEXT NOT NULL,
    case_code TEXT NOT NULL,
    captured_at TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',
    attempts INTEGER NOT NULL DEFAULT 0,
    epoch INTEGER NOT NULL DEFAULT 0,
    due_at REAL NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    notice TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS frames_due ON frames (priority, epoch, due_at) WHERE state != 'parked';
CREATE INDEX IF NOT EXISTS frames_parked ON frames (state) WHERE state = 'parked';
-- Apart, because SQLite rewrites a whole row, image and all, when any of its columns changes.
CREATE TABLE IF NOT EXISTS payloads (
    sequence INTEGER PRIMARY KEY,
    mark INTEGER NOT NULL,
    frame_id TEXT NOT NULL,
    priority TEXT NOT NULL,
    case_code TEXT NOT NULL,
    captured_at TEXT NOT NULL,
    payload BLOB NOT NULL
);
-- The files that were dealt with, and the frame each became (-1: none). The index is a second copy of every row.
CREATE TABLE IF NOT EXISTS sources (
    token TEXT PRIMARY KEY, sequence INTEGER NOT NULL, mark INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sources_frame ON sources (sequence, mark);
-- The frames that the disk has lost: a person is told of each.
CREATE TABLE IF NOT EXISTS lost (
    sequence INTEGER PRIMARY KEY,
    mark INTEGER NOT NULL,
    frame_id TEXT NOT NULL,
    case_code TEXT NOT NULL,
    lost_at TEXT NOT NULL,
    reason TEXT NOT NULL,
    told INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS lost_untold ON lost (told) WHERE told = 0;
-- How far the frames of a damaged spool that was set aside are taken over (-1: all).
CREATE TABLE IF NOT EXISTS salvage (
    aside TEXT PRIMARY KEY, next INTEGER NOT NULL, high INTEGER NOT NULL
) WITHOUT ROWID;
-- One row. The triggers keep it equal to the tables, whichever process writes, so that nobody has to count.
CREATE TABLE IF NOT EXISTS totals (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    next INTEGER NOT NULL DEFAULT 0,
    unsettled INTEGER NOT NULL DEFAULT 0,
    parked INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    damaged INTEGER NOT NULL DEFAULT 0,
    untold INTEGER NOT NULL DEFAULT 0
);
INSERT OR IGNORE INTO totals (one) VALUES (1);
CREATE TRIGGER IF NOT EXISTS frame_comes AFTER INSERT ON frames BEGIN
    UPDATE totals SET next = MAX(next, NEW.sequence + 1), bytes = bytes + NEW.bytes,
        unsettled = unsettled + (NEW.state != 'parked'), parked = parked + (NEW.state = 'parked'),
        untold = untold + (NEW.notice != '');
END;
CREATE TRIGGER IF NOT EXISTS frame_goes AFTER DELETE ON frames BEGIN
    UPDATE totals SET bytes = bytes - OLD.bytes,
        unsettled = unsettled - (OLD.state != 'parked'), parked = parked - (OLD.state = 'parked'),
        untold = untold - (OLD.notice != '');
END;
CREATE TRIGGER IF NOT EXISTS frame_changes AFTER UPDATE OF state, bytes, notice ON frames
WHEN OLD.bytes != NEW.bytes OR (OLD.state = 'parked') != (NEW.state = 'parked') OR (OLD.notice = '') != (NEW.notice = '')
BEGIN
    UPDATE totals SET bytes = bytes + NEW.bytes - OLD.bytes,
        unsettled = unsettled + (NEW.state != 'parked') - (OLD.state != 'parked'),
        parked = parked + (NEW.state = 'parked') - (OLD.state = 'parked'),
        untold = untold + (NEW.notice != '') - (OLD.notice != '');
END;
CREATE TRIGGER IF NOT EXISTS loss_comes AFTER INSERT ON lost BEGIN
    UPDATE totals SET next = MAX(next, NEW.sequence + 1), damaged = damaged + 1, untold = untold + (NEW.told = 0);
END;
CREATE TRIGGER IF NOT EXISTS loss_goes AFTER DELETE ON lost BEGIN
    UPDATE totals SET damaged = damaged - 1, untold = untold - (OLD.told = 0);
END;
CREATE TRIGGER IF NOT EXISTS loss_changes AFTER UPDATE OF told ON lost BEGIN
    UPDATE totals SET untold = untold + (NEW.told = 0) - (OLD.told = 0);
END;
"""
COUNT_AGAIN = """
UPDATE totals SET
    next = MAX(next, (SELECT COALESCE(MAX(sequence) + 1, 0) FROM frames)),
    (unsettled, parked, bytes, untold) = (
        SELECT COUNT(*) FILTER (WHERE state != 'parked'), COUNT(*) FILTER (WHERE state = 'parked'),
            COALESCE(SUM(bytes), 0), COUNT(*) FILTER (WHERE notice != '') FROM frames
    );
UPDATE totals SET
    next = MAX(next, (SELECT COALESCE(MAX(sequence) + 1, 0) FROM lost)),
    damaged = (SELECT COUNT(*) FROM lost),
    untold = untold + (SELECT COUNT(*) FROM lost WHERE told = 0);
"""
LEASED = 1 << 40
"""The epoch of frames that `Spool.hasten` leaves alone."""

LOST_CODE = "spool_damaged"
COLUMNS = "frame_id, sequence, priority, case_code, captured_at, bytes, state, attempts, reason"


def identity_mark(sequence: int, frame_id: str, *rest: str) -> int:
    """Return the checksum of a row's fixed fields (``rest``: priority, case and time of capture, in this order)."""
    return zlib.crc32("\x1f".join((str(sequence), frame_id, *rest)).encode("utf-8", "surrogatepass"))


def payload_mark(identity: int, payload: bytes) -> int:
    """Return the checksum of a payload that belongs to the frame with this `identity_mark`."""
    return zlib.crc32(payload, identity)


def source_mark(token: str, sequence: int) -> int:
    """Return the checksum of a source's row."""
    return zlib.crc32(f"{token}\x1f{sequence}".encode("utf-8", "surrogatepass"))


@dataclass(frozen=True)
class SpooledFrame:
    """A frame to keep.

    Attributes:
        frame_id: Its id, fixed at capture.
        sequence: Its number on this device.
        priority: ``stat`` or ``routine``.
        case: Its case.
        captured_at: ISO 8601 time in UTC.
        payload: The encoded message.
        source: Token of the file it came from; noted with the frame, so that the file is never taken twice.
    """

    frame_id: str
    sequence: int
    priority: Priority
    case: str
    captured_at: str
    payload: bytes = field(repr=False)
    source: str = ""

    @property
    def identity(self) -> int:
        """Checksum of what is fixed at capture, the payload apart."""
        return identity_mark(self.sequence, self.frame_id, self.priority, self.case, self.captured_at)


@dataclass(frozen=True)
class SpoolRow:
    """What the spool knows about a frame, without its payload."""

    frame_id: str
    sequence: int
    priority: Priority
    case: str
    captured_at: str
    size: int
    state: State
    attempts: int
    reason: str


@dataclass(frozen=True)
class LostFrame:
    """A frame that the disk has lost.

    Attributes:
        sequence: Its number on this device.
        frame_id: Its id, where it could still be read.
        case: Its case, likewise.
        lost_at: When the loss was found, ISO 8601 in UTC.
        reason: What was found.
        told: Whether the far end has been told.
    """

    sequence: int
    frame_id: str | None
    case: str | None
    lost_at: str
    reason: str
    told: bool


@dataclass(frozen=True)
class Untold:
    """A frame of which a person at the far end must still be told: parked by the edge itself, or lost with its disk.

    Attributes:
        id: What `Spool.mark_told` wants.
        sequence: The frame's number on this device.
        frame_id: Its id, where known.
        case: Its case, where known.
        code: Short stable reason, such as ``spool_damaged`` or ``too_large``.
        reason: The same in a sentence.
        at: When it was captured or its loss found, ISO 8601 in UTC.
        attempts: How often it was tried, from 1.
        payload_bytes: Size of the payload; 0 when it is gone.
        payload_sha256: Of the payload; of nothing when it is gone.
    """

    id: int
    sequence: int
    frame_id: str | None
    case: str | None
    code: str
    reason: str
    at: str
    attempts: int
    payload_bytes: int
    payload_sha256: str


@dataclass(frozen=True)
class SpoolTotals:
    """How much is in the spool.

    Attributes:
        unsettled: Frames that wait for a receipt.
        parked: Frames that wait for a person.
        size: Bytes of all payloads.
        damaged: Frames that the disk has lost, told or not.
        untold: Frames, lost or parked by the edge itself, of which the far end must still be told.
    """

    unsettled: int
    parked: int
    size: int
    damaged: int = 0
    untold: int = 0
