"""A spool of the first release is brought to the present schema."""

import sqlite3

import pytest

from edge_agent.spool import Spool
from tests.edge_agent.spool_history import opened

OLD = """
CREATE TABLE frames (frame_id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, priority TEXT NOT NULL, case_code TEXT NOT NULL,
    captured_at TEXT NOT NULL, bytes INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'waiting',
    attempts INTEGER NOT NULL DEFAULT 0, due_at REAL NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
CREATE INDEX frames_due ON frames (priority, due_at, sequence) WHERE state != 'parked';
CREATE TABLE payloads (frame_id TEXT PRIMARY KEY, payload BLOB NOT NULL);
CREATE TABLE sources (token TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


@pytest.mark.parametrize("moves", [None, 0, 1, 2])
def test_a_spool_of_the_first_release_is_brought_over_even_through_a_crash(tmp_path, moves, monkeypatch):
    path = tmp_path / "spool.sqlite"
    old = sqlite3.connect(path)
    old.execute("PRAGMA auto_vacuum=INCREMENTAL")
    old.execute("PRAGMA journal_mode=WAL")
    old.executescript(OLD)
    for number in range(150):
        state = "parked" if number == 9 else "waiting"
        frame_id = f"{number:032x}"
        old.execute(
            "INSERT INTO frames VALUES (?, ?, 'routine', 'ACC-1', '2026-01-31T12:00:00+00:00', 2000, ?, 3, 7.5, 'why')",
            (frame_id, number, state),
        )
        old.execute("INSERT INTO payloads VALUES (?, ?)", (frame_id, bytes([number]) * 2000))
        old.execute("INSERT INTO sources VALUES (?)", (f"file-{number}",))
    old.execute("INSERT INTO meta VALUES ('sequence', 1234)")
    old.commit()
    old.close()
    if moves is not None:
        from edge_agent.spool import migration as spool_migration  # noqa: PLC0415

        move, calls = spool_migration._move_some, []

        def crash(connection):
            calls.append(1)
            if len(calls) > moves:
                raise KeyboardInterrupt
            return move(connection)

        with monkeypatch.context() as patch:
            patch.setattr(spool_migration, "_move_some", crash)
            half = Spool(path, max_bytes=10_000_000, reserve_bytes=0)
            with pytest.raises(KeyboardInterrupt):
                half.open()
            half._database._writer.close()
    store = opened(tmp_path)
    assert (store.totals.unsettled, store.totals.parked, store.totals.size) == (149, 1, 300_000)
    assert store.next_sequence == 1234
    assert store.row(f"{9:032x}").reason == "why"
    assert all(store.payload(f"{number:032x}") == bytes([number]) * 2000 for number in range(150))
    assert store.has_source("file-77")
    tables = {name for (name,) in store._read("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert not any(name.endswith("_1") for name in tables)
    store.close()
