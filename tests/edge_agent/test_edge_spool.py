"""The spool: durable, bounded, and honest about damage and full disks."""

import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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


class SpoolMachine(RuleBasedStateMachine):
    """The spool beside a dictionary that does what it should."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.spool = Spool(Path(self.folder.name) / "spool.sqlite", max_bytes=20_000)
        self.model = {}
        self.number = 0

    @initialize()
    def open(self):
        self.spool.open()

    @rule(size=st.integers(1, 9000), priority=st.sampled_from(["stat", "routine"]))
    def add(self, size, priority):
        new = frame(self.number, size=size, priority=priority)
        self.number += 1
        fits = sum(len(one.payload) for one, _ in self.model.values()) + size <= 20_000
        try:
            self.spool.add(new)
            assert fits
            self.model[new.frame_id] = (new, "waiting")
        except SpoolFull:
            assert not fits

    def chosen(self, data):
        return data.draw(st.sampled_from([*sorted(self.model), "f" * 32]))

    @precondition(lambda self: self.model)
    @rule(
        data=st.data(),
        deed=st.sampled_from(["settle", "park", "retry", "sent", "unsent", "diagnosed", "smaller"]),
    )
    def change(self, data, deed):
        frame_id = self.chosen(data)
        known, state = self.model.get(frame_id, (None, None))
        match deed:
            case "settle":
                assert self.spool.settle(frame_id) == (known is not None)
                self.model.pop(frame_id, None)
                return
            case "park":
                assert self.spool.park(frame_id, reason="x") == (known is not None and state != "parked")
                after = "parked"
            case "retry":
                assert self.spool.retry(frame_id) == (state == "parked")
                after = "waiting" if state == "parked" else state
            case "sent":
                self.spool.mark_sent(frame_id, due_at=0)
                after = "sent" if state == "waiting" else state
            case "unsent":
                self.spool.mark_unsent(frame_id, due_at=0)
                after = "waiting" if state == "sent" else state
            case "diagnosed":
                self.spool.mark_diagnosed(frame_id, due_at=0)
                after = state if state == "parked" else "diagnosed"
            case "smaller":
                self.spool.replace_payload(frame_id, b"s")
                after = state
                known = known and SpooledFrame(**{**vars(known), "payload": b"s"})
        if known is not None:
            self.model[frame_id] = (known, after)

    @rule()
    def crash_and_start_again(self):
        self.spool._database._writer.close()  # no orderly end
        self.spool._database._reader.close()
        self.spool.open()

    @invariant()
    def agrees(self):
        if self.spool._database._writer is None:
            return
        rows = {row.frame_id: row for row in self.spool.rows()}
        assert {one: row.state for one, row in rows.items()} == {one: s for one, (_, s) in self.model.items()}
        for frame_id, (known, _) in self.model.items():
            assert self.spool.payload(frame_id) == known.payload
        totals = self.spool.totals
        assert totals == self.spool.recount()
        assert totals.size == sum(len(known.payload) for known, _ in self.model.values())
        due = self.spool.next_due(1e12)
        assert (not due) == all(state == "parked" for _, state in self.model.values())

    def teardown(self):
        self.spool.close()
        self.folder.cleanup()


SpoolMachine.TestCase.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
test_the_spool_agrees_with_its_model = SpoolMachine.TestCase


def test_sqlite_keeps_wal_and_full_sync(spool):
    spool.add(frame(1))
    assert spool._database._writer.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert spool._database._writer.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert sqlite3.threadsafety >= 1
