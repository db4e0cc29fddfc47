"""Brings a spool of an earlier release to the present schema, in place.

Frames move from the old tables to the new in small transactions, so that it needs little room, and a crash in the middle
leaves both tables and goes on at the next start.
"""

import logging
import sqlite3

from edge_agent.spool.rows import SCHEMA, VERSION, identity_mark, payload_mark, source_mark

logger = logging.getLogger(__name__)

_AT_ONCE = 64
_RENAMED = {"frames": "frames_1", "payloads": "payloads_1", "sources": "sources_1", "meta": "meta_1"}


def migrate(connection: sqlite3.Connection) -> None:
    """Move everything; does nothing to a new spool or one of this release.

    Raises:
        sqlite3.Error: If it is of a later release, damaged, or the disk is full; going on later is safe.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise sqlite3.OperationalError(
            f"its schema is {version} and this release knows {VERSION}: install the later release again"
        )
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if version == VERSION or not tables & {"meta", "frames_1"}:
        return
    connection.execute("PRAGMA synchronous=FULL")
    if "meta" in tables:
        renames = "".join(f"ALTER TABLE {old} RENAME TO {new};" for old, new in _RENAMED.items())
        connection.executescript(f"BEGIN IMMEDIATE; DROP INDEX IF EXISTS frames_due; {renames} COMMIT")
    connection.executescript(SCHEMA)
    moved = 0
    while count := _move_some(connection):
        moved += count
    _finish(connection)
    logger.info("the spool was brought to schema %d; %d frames moved", VERSION, moved)


def _move_some(connection: sqlite3.Connection) -> int:
    connection.execute("BEGIN IMMEDIATE")
    try:
        rows = connection.execute(
            "SELECT frame_id, sequence, priority, case_code, captured_at, bytes, state, attempts, reason, payload "
            "FROM frames_1 LEFT JOIN payloads_1 USING (frame_id) ORDER BY sequence LIMIT ?",
            (_AT_ONCE,),
        ).fetchall()
        for frame_id, sequence, priority, case, captured_at, size, state, attempts, reason, payload in rows:
            identity = identity_mark(sequence, frame_id, priority, case, captured_at)
            connection.execute(
                "INSERT INTO frames (sequence, mark, frame_id, priority, case_code, captured_at, bytes, state, attempts, reason) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (sequence, identity, frame_id, priority, case, captured_at, size, state, attempts, reason),
            )
            if payload is not None:
                connection.execute(
                    "INSERT INTO payloads VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        sequence,
                        payload_mark(identity, payload),
                        frame_id,
                        priority,
                        case,
                        captured_at,
                        payload,
                    ),
                )
            connection.execute("DELETE FROM frames_1 WHERE frame_id = ?", (frame_id,))
            connection.execute("DELETE FROM payloads_1 WHERE frame_id = ?", (frame_id,))
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return len(rows)


def _finish(connection: sqlite3.Connection) -> None:
    tokens = connection.execute("SELECT token FROM sources_1").fetchall()
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany(
            "INSERT OR IGNORE INTO sources VALUES (?, -1, ?)",
            [(one, source_mark(one, -1)) for (one,) in tokens],
        )
        connection.execute(
            "UPDATE totals SET next = MAX(next, COALESCE((SELECT value FROM meta_1 WHERE name = 'sequence'), 0))"
        )
        for table in _RENAMED.values():
            connection.execute(f"DROP TABLE {table}")
        connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
