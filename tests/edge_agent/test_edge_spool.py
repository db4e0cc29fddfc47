"""The spool: durable, bounded, and honest about damage and full disks."""

import sqlite3
import threading

import pytest

from edge_agent.errors import SpoolFull, SpoolUnavailable
from edge_agent.spool import Spool, SpooledFrame, damaged_spools


def frame(number, *, size=1000, priority="routine", source=""):
    return SpooledFrame(
        frame_id=f"{number:032x}",
        sequence=number,
        priority=priority,
        case="ACC-1",
        captured_at="2026-01-31T12:00:00+00:00",
        payload=bytes([number % 256]) * size,
        source=source,
    )


@pytest.fixture
def spool(tmp_path):
    store = Spool(tmp_path / "spool.sqlite", max_bytes=1_000_000)
    store.open()
    yield store
    store.close()


def reopened(spool):
    spool.close()
    spool.open()
    return spool


def test_order_is_stat_first_then_by_age_and_survives_a_restart(spool):
    for number in range(3):
        spool.add(frame(number))
    spool.add(frame(3, priority="stat"))
    for _ in range(2):
        sent = []
        while rows := spool.next_due(1e12, excluding=sent):
            sent.append(rows[0].frame_id)
        assert [int(one, 16) for one in sent] == [3, 0, 1, 2]
        reopened(spool)
    spool.mark_sent(sent[0], due_at=1e15)
    assert spool.next_due(1e12)[0].frame_id == sent[1]
    assert reopened(spool).next_due(0.0)[0].frame_id == sent[0]  # due times mean nothing after a restart
    assert spool.next_sequence == 4


def test_a_source_is_noted_with_its_frame_and_only_with_it(spool):
    spool.add(frame(1, source="file-1"))
    spool.settle(frame(1).frame_id)
    with pytest.raises(SpoolFull, match=r"spool\.max_bytes"):
        spool.add(frame(2, size=2_000_000, source="file-2"))
    assert reopened(spool).has_source("file-1")
    assert not spool.has_source("file-2")


def test_a_full_disk_refuses_the_frame_and_keeps_the_others(spool):
    for number in range(10):
        spool.add(frame(number, size=20_000))
    pages = spool._database._writer.execute("PRAGMA page_count").fetchone()[0]
    spool._database._writer.execute(f"PRAGMA max_page_count={pages}")  # the disk is full
    with pytest.raises(SpoolUnavailable, match="make room"):
        spool.add(frame(99, size=20_000))
    assert spool.totals.unsettled == 10
    assert spool.row(frame(99).frame_id) is None
    assert spool.settle(frame(0).frame_id)  # a receipt makes room
    spool.add(frame(99, size=10_000))
    assert spool.totals.unsettled == 10


def test_a_damaged_spool_is_set_aside_and_what_can_be_read_is_kept(tmp_path, caplog):
    path = tmp_path / "spool.sqlite"
    store = Spool(path, max_bytes=10_000_000)
    store.open()
    for number in range(200):
        store.add(frame(number, size=5000))
    store.close()
    data = bytearray(path.read_bytes())
    middle = len(data) * 3 // 4
    data[middle : middle + 40_000] = b"\xa5" * 40_000
    path.write_bytes(data)
    store.open()
    assert len(damaged_spools(tmp_path)) == 1
    assert "set aside" in caplog.text
    assert 0 < store.totals.unsettled < 200
    (row,) = store.next_due(1e12)
    assert store.payload(row.frame_id) == frame(row.sequence, size=5000).payload
    store.close()


def test_a_file_that_is_no_database_is_set_aside(tmp_path):
    path = tmp_path / "spool.sqlite"
    path.write_bytes(b"this is not a database" * 1000)
    store = Spool(path, max_bytes=1_000_000)
    store.open()
    store.add(frame(1))
    store.close()
    assert damaged_spools(tmp_path)[0].read_bytes().startswith(b"this is not")


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolUnavailable, match="permissions"):
        Spool(tmp_path / "file" / "spool.sqlite", max_bytes=1_000_000).open()


def test_what_another_process_retries_is_counted_right_at_once(spool, tmp_path):
    for number in range(2):
        spool.add(frame(number))
        spool.park(frame(number).frame_id, reason="rejected")
    beside = Spool(tmp_path / "spool.sqlite", max_bytes=1_000_000)
    beside.attach()
    for number in range(2):
        assert beside.retry(frame(number).frame_id)
    beside.close()
    assert spool.settle(frame(0).frame_id)  # before the agent's own recount
    assert (spool.totals.unsettled, spool.totals.parked, spool.totals.size) == (1, 0, 1000)
    assert spool.settle(frame(1).frame_id)
    assert (spool.totals.unsettled, spool.totals.parked, spool.totals.size) == (0, 0, 0)


def test_an_outage_gives_its_disk_space_back(tmp_path):
    path = tmp_path / "spool.sqlite"
    store = Spool(path, max_bytes=100_000_000)
    store.open()
    for number in range(300):
        store.add(frame(number, size=100_000))
    for number in range(300):
        store.settle(frame(number).frame_id)
    store.close()
    assert path.stat().st_size < 2_000_000


def test_sqlite_keeps_wal_and_full_sync(spool):
    spool.add(frame(1))
    assert spool._database._writer.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert spool._database._writer.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert sqlite3.threadsafety >= 1


def test_a_batch_is_one_transaction_and_fails_as_one(spool):
    for number in range(3):
        spool.add(frame(number))
    with spool.batch():
        spool.mark_sent(frame(0).frame_id, due_at=1e12)
        spool.settle(frame(1).frame_id)
        assert spool.row(frame(1).frame_id) is None  # it sees its own writes
        assert spool.totals.unsettled == 2
    with pytest.raises(SpoolUnavailable, match="UNIQUE"), spool.batch():  # noqa: PT012 - the last is at fault
        spool.settle(frame(0).frame_id)
        spool.add(frame(2))
    assert [row.sequence for row in spool.rows()] == [0, 2]
    assert spool.totals == spool.recount()


def test_a_capture_that_is_being_synced_keeps_nobody_from_reading(spool):
    spool.add(frame(0))
    with spool._lock:  # as `add` holds it while the disk syncs
        found = []
        reader = threading.Thread(target=lambda: found.extend(spool.next_due(1e15)))
        reader.start()
        reader.join(20)
    assert [row.sequence for row in found] == [0]


def test_hastening_brings_all_resends_forward_but_those_of_diagnosed_frames(spool):
    for number in range(4):
        spool.add(frame(number))
        spool.mark_sent(frame(number).frame_id, due_at=1e12)
    spool.mark_diagnosed(frame(1).frame_id, due_at=1e12)
    assert spool.next_due(1e11) == []
    assert spool.next_due_at() == 1e12
    spool.hasten(due_at=5.0)
    assert spool.next_due_at() <= 5.0
    assert [row.sequence for row in spool.next_due(1e11, limit=9)] == [0, 2, 3]
    spool.set_due(frame(2).frame_id, due_at=1e12)  # it is on its way
    assert [row.sequence for row in spool.next_due(1e11, limit=9)] == [0, 3]
    assert {row.sequence for row in reopened(spool).next_due(0.0, limit=9)} == {0, 1, 2, 3}


def test_an_attempt_counts_as_made_after_a_power_cut(spool, tmp_path):
    spool.add(frame(0))
    assert reopened(spool).row(frame(0).frame_id).attempts == 0
    spool._marks._boot = "another-run"
    spool._marks.start(1)
    spool._database.close()
    spool.open()
    assert spool.row(frame(0).frame_id).attempts == 1


def test_the_plans_of_the_uplinks_questions_touch_few_rows(spool):
    statements = []
    spool._database._reader.set_trace_callback(statements.append)
    for number in range(20):
        spool.add(frame(number))
    spool.next_due(1e12, excluding=["x"], limit=8)
    spool.next_due_at()
    spool.payload(frame(0).frame_id)
    spool.row(frame(0).frame_id)
    spool.recount()
    spool.oldest_waiting  # noqa: B018 - asked for its statement
    spool._database._reader.set_trace_callback(None)
    assert len(statements) > 10
    for statement in statements:
        for *_, step in spool._read(f"EXPLAIN QUERY PLAN {statement}"):
            assert "TEMP B-TREE" not in step, statement
            scans = "SCAN" in step and not any(small in step for small in ("totals", "json_each"))
            assert not scans or "ORDER BY sequence LIMIT 1" in statement, (step, statement)
