"""What the spool holds: its tables, and what it takes in and tells of a frame."""

from dataclasses import dataclass, field
from typing import Literal

from broker_config.topics import Priority

State = Literal["waiting", "sent", "diagnosed", "parked"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS frames (
    frame_id TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    priority TEXT NOT NULL,
    case_code TEXT NOT NULL,
    captured_at TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at REAL NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS frames_due ON frames (priority, due_at, sequence) WHERE state != 'parked';
-- Apart, because SQLite rewrites a whole row, image and all, when any of its columns changes.
CREATE TABLE IF NOT EXISTS payloads (frame_id TEXT PRIMARY KEY, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS sources (token TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
COLUMNS = "frame_id, sequence, priority, case_code, captured_at, bytes, state, attempts, reason"


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
class SpoolTotals:
    """How much is in the spool.

    Attributes:
        unsettled: Frames that wait for a receipt.
        parked: Frames that wait for a person.
        size: Bytes of all payloads.
    """

    unsettled: int
    parked: int
    size: int
