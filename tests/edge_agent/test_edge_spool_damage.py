"""Damage: whatever is done to the pages of a spool, each frame is there and intact, or is named."""

import os
import random
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.errors import SpoolUnavailable
from edge_agent.spool import Spool, SpooledFrame, damaged_spools

PAGE = 4096
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # thousands of syncs tell nothing here


def make_frame(number, *, size, rng, source=""):
    return SpooledFrame(
        frame_id=f"{rng.getrandbits(128):032x}",
        sequence=number,
        priority=rng.choice(["stat", "routine"]),
        case=f"ACC-{number % 7}",
        captured_at="2026-01-31T12:00:00+00:00",
        payload=rng.randbytes(size),
        source=source,
    )


def opened(folder):
    store = Spool(folder / "spool.sqlite", max_bytes=1_000_000_000, reserve_bytes=0)
    store.open()
    return store


@dataclass
class History:
    """What was done to a spool, and what must be in it."""

    folder: Path
    seed: int
    frames: int
    kept: dict = field(default_factory=dict)
    settled: set = field(default_factory=set)

    def live(self, *, in_order):
        rng = random.Random(self.seed)
        store = opened(self.folder)
        for number in range(self.frames):
            source = f"file-{number}" if rng.random() < 0.5 else ""
            new = make_frame(number, size=rng.choice([10, 500, 5000, 30_000]), rng=rng, source=source)
            store.add(new)
            self.kept[number] = new
            chosen = rng.choice(list(self.kept))
            match rng.randrange(8):
                case 0 | 1:
                    assert store.settle(self.kept.pop(chosen).frame_id)
                    self.settled.add(chosen)
                case 2:
                    store.park(self.kept[chosen].frame_id, reason="why", code=rng.choice(["", "too_large"]))
                case 3:
                    store.mark_sent(self.kept[chosen].frame_id, due_at=1.0)
                case 4:
                    store.retry(self.kept[chosen].frame_id)
        if in_order:
            store.close()
        return store


def damage(folder, blows, cut):
    for suffix, where, how in blows:
        path = folder / f"spool.sqlite{suffix}"
        data = bytearray(path.read_bytes()) if path.exists() else bytearray()
        if not data:
            continue
        rng = random.Random(where)
        start = int(where * (len(data) // PAGE)) * PAGE
        end = min(start + PAGE, len(data))
        if how == "zero":
            data[start:end] = bytes(end - start)
        elif how == "noise":
            data[start:end] = rng.randbytes(end - start)
        else:
            for _ in range(rng.randint(1, 20)):
                data[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
    if cut is not None:
        path = folder / "spool.sqlite"
        path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])


def use(store):
    """Read everything as the uplink does, until nothing new is found; returns the ids that fall due."""
    while True:
        before = store.totals
        seen = []
        try:
            while rows := store.next_due(1e15, excluding=seen, limit=1000):
                seen += [row.frame_id for row in rows]
            for row in store.rows(limit=100_000):
                store.payload(row.frame_id)
        except SpoolUnavailable:
            continue  # once, where damage is found in use
        if store.totals == before:
            return seen


def check(store, history):
    due = use(store)
    rows = {row.sequence: row for row in store.rows(limit=100_000)}
    lost = {one.sequence: one for one in store.lost(limit=100_000)}
    for number, known in history.kept.items():
        if number in rows:
            row = rows[number]
            assert (row.frame_id, row.case, row.priority) == (known.frame_id, known.case, known.priority)
            assert store.payload(row.frame_id) == known.payload
        else:
            assert number in lost, f"frame {number} is neither there nor named"
            assert lost[number].frame_id in (known.frame_id, None)
    assert store.next_sequence >= history.frames
    assert {row.frame_id for row in rows.values() if row.state != "parked"} == set(due)
    parked = sum(row.state == "parked" for row in rows.values())
    totals = store.totals
    assert (totals.unsettled, totals.parked, totals.damaged) == (len(rows) - parked, parked, len(lost))
    assert totals.size == sum(row.size for row in rows.values())
    assert {one.sequence for one in store.untold(limit=100_000)} >= lost.keys()
    return rows, lost


blows = st.lists(
    st.tuples(
        st.sampled_from(["", "", "-wal"]),
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["zero", "noise", "flip"]),
    ),
    min_size=1,
    max_size=30,
)


def damaged_and_reopened(seed, frames, in_order, wounds, cut):
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        history = History(Path(name) / "first", seed, frames)
        store = history.live(in_order=in_order)
        copy = Path(name) / "copy"  # as a crash leaves it
        shutil.copytree(history.folder, copy, ignore=shutil.ignore_patterns("*-shm"))
        store.close()
        damage(copy, wounds, cut)
        again = opened(copy)
        try:
            check(again, history)
            again.add(make_frame(again.next_sequence, size=100, rng=random.Random(0)))
        finally:
            again.close()


EXAMPLE = given(
    seed=st.integers(0, 1 << 32),
    frames=st.integers(1, 100),
    in_order=st.booleans(),
    wounds=blows,
    cut=st.one_of(st.none(), st.none(), st.floats(0, 1)),
)
QUIETLY = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@EXAMPLE
@settings(max_examples=40, **QUIETLY)
def test_whatever_pages_are_damaged_each_frame_is_there_or_named(seed, frames, in_order, wounds, cut):
    damaged_and_reopened(seed, frames, in_order, wounds, cut)


@pytest.mark.slow
@EXAMPLE
@settings(max_examples=1500, **QUIETLY)
def test_whatever_pages_are_damaged_each_frame_is_there_or_named_at_length(
    seed, frames, in_order, wounds, cut
):
    damaged_and_reopened(seed, frames, in_order, wounds, cut)


@pytest.mark.parametrize("gone", [True, False])
def test_a_database_beyond_recovery_names_all_it_held_and_numbers_go_on(tmp_path, gone):
    history = History(tmp_path, 7, 60)
    history.live(in_order=True)
    path = tmp_path / "spool.sqlite"
    if gone:
        path.unlink()
    else:
        path.write_bytes(b"\0" * path.stat().st_size)
    store = opened(tmp_path)
    assert store.next_sequence == 60
    assert {one.sequence for one in store.lost()} >= history.kept.keys()
    check(store, history)
    store.close()


def test_one_bad_page_costs_the_frames_on_it_and_no_other(tmp_path):
    history = History(tmp_path, 3, 0)
    store = opened(tmp_path)
    rng = random.Random(3)
    for number in range(100):
        history.kept[number] = make_frame(number, size=30_000, rng=rng, source=f"file-{number}")
        store.add(history.kept[number])
    store.park(history.kept[10].frame_id, reason="too large", code="too_large")
    store.mark_sent(history.kept[60].frame_id, due_at=1e12)
    store.close()
    data = bytearray((tmp_path / "spool.sqlite").read_bytes())
    for number in (50, 60):
        at = data.find(history.kept[number].payload[12_000:12_016]) // PAGE * PAGE
        data[at : at + PAGE] = bytes(PAGE)
    (tmp_path / "spool.sqlite").write_bytes(data)
    store = opened(tmp_path)
    lost, sent = store.lost()
    assert (lost.sequence, lost.frame_id, lost.case) == (50, history.kept[50].frame_id, "ACC-1")
    assert (sent.sequence, sent.frame_id) == (60, history.kept[60].frame_id)
    assert "may be in the record" in sent.reason
    assert store.totals.unsettled == 97
    parked = store.row(history.kept[10].frame_id)
    assert (parked.state, parked.reason) == ("parked", "too large")
    assert not store.has_source("file-50")
    assert store.has_source("file-49")
    assert store.has_source("file-60")  # taken again, it might be in the record twice
    assert [(one.sequence, one.code) for one in store.untold()] == [
        (10, "too_large"),
        (50, "spool_damaged"),
        (60, "spool_damaged"),
    ]
    assert all(store.mark_told(number) for number in (10, 50, 60))
    assert store.untold() == []
    assert len(damaged_spools(tmp_path)) == 1
    assert not (tmp_path / "spool.sqlite.repair").exists()
    store.close()


def test_files_that_were_dealt_with_are_remembered_whichever_page_is_lost(tmp_path):
    history = History(tmp_path / "first", 5, 80)
    history.live(in_order=True)
    data = (history.folder / "spool.sqlite").read_bytes()
    pages = range(len(data) // PAGE)
    store = opened(history.folder)
    sources = [f"file-{number}" for number in range(80) if store.has_source(f"file-{number}")]
    store.close()
    for page in random.Random(1).sample(pages, 25):
        folder = Path(tempfile.mkdtemp(dir=MEMORY))
        shutil.copytree(history.folder, folder, dirs_exist_ok=True)
        path = folder / "spool.sqlite"
        path.write_bytes(data[: page * PAGE] + bytes(PAGE) + data[(page + 1) * PAGE :])
        store = opened(folder)
        unsent = {one.sequence for one in store.lost() if "published" not in one.reason}
        forgotten = {one for one in sources if not store.has_source(one)}
        assert forgotten <= {f"file-{number}" for number in unsent}
        store.close()
        shutil.rmtree(folder)


def test_a_rotted_image_is_noticed_when_it_is_read_for_publishing(tmp_path, caplog):
    store = opened(tmp_path)
    rng = random.Random(1)
    frames = [make_frame(number, size=20_000, rng=rng, source=f"file-{number}") for number in range(5)]
    for one in frames:
        store.add(one)
    store.close()
    data = bytearray((tmp_path / "spool.sqlite").read_bytes())
    data[data.find(frames[2].payload[9000:9016])] ^= 1
    (tmp_path / "spool.sqlite").write_bytes(data)
    store = opened(tmp_path)
    assert store.totals.unsettled == 5  # SQLite finds nothing wrong
    assert store.payload(frames[2].frame_id) is None
    assert "checksum" in caplog.text
    (notice,) = store.untold()
    assert (notice.sequence, notice.frame_id, notice.code) == (2, frames[2].frame_id, "spool_damaged")
    assert store.sources_forgotten == 1
    assert damaged_spools(tmp_path) == []
    assert store.settle(frames[2].frame_id)  # the far end had it after all: it is not lost
    assert store.untold() == []
    assert store.totals.damaged == 0
    store.close()


def test_damage_met_in_use_is_repaired_and_work_goes_on(tmp_path):
    store = opened(tmp_path)
    rng = random.Random(5)
    frames = [make_frame(number, size=30_000, rng=rng) for number in range(150)]
    for one in frames:
        store.add(one)
    store._database._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (tmp_path / "spool.sqlite").open("r+b") as file:  # beneath the running spool
        for page in range(200, 260):
            file.seek(page * PAGE)
            file.write(b"\xa5" * PAGE)
    delivered, refused = set(), 0
    while store.totals.unsettled:
        try:
            for row in store.next_due(1e15):
                if store.payload(row.frame_id) is not None:
                    store.mark_sent(row.frame_id, due_at=1e12)
                    store.settle(row.frame_id)
                    delivered.add(row.sequence)
        except SpoolUnavailable:
            refused += 1
            assert refused < 5
    lost = {one.sequence for one in store.lost()}
    assert delivered | lost == set(range(150))
    assert 0 < len(lost) < 20
    store.add(make_frame(store.next_sequence, size=10, rng=rng))
    store.close()


def test_damage_of_the_log_right_after_a_repair_does_not_undo_it(tmp_path):
    history = History(tmp_path / "first", 6, 90)
    history.live(in_order=True)
    path = history.folder / "spool.sqlite"
    data = bytearray(path.read_bytes())
    data[40 * PAGE : 41 * PAGE] = bytes(PAGE)
    path.write_bytes(data)
    store = opened(history.folder)
    assert damaged_spools(history.folder)
    copy = tmp_path / "copy"
    shutil.copytree(history.folder, copy, ignore=shutil.ignore_patterns("*-shm"))
    store.close()
    log = copy / "spool.sqlite-wal"
    log.write_bytes(bytes(log.stat().st_size))
    again = opened(copy)
    rows, _ = check(again, history)
    assert rows
    again.close()


def test_a_schema_that_is_no_text_is_damage_like_any_other(tmp_path):
    history = History(tmp_path, 8, 30)
    history.live(in_order=True)
    path = tmp_path / "spool.sqlite"
    data = path.read_bytes()
    assert b"mark INTEGER NOT NULL" in data[:PAGE]
    path.write_bytes(data.replace(b"mark INTEGER NOT NULL", b"mark INTEGER N\xccT NULL", 1))
    store = opened(tmp_path)
    rows, _ = check(store, history)
    assert rows.keys() >= history.kept.keys()
    store.close()


def test_a_row_that_has_rotted_is_known_again_by_its_payload(tmp_path):
    history = History(tmp_path, 4, 20)
    store = history.live(in_order=False)
    number = max(history.kept)
    store._database._writer.execute(
        "UPDATE frames SET frame_id = 'rotted', state = 'what' WHERE sequence = ?", (number,)
    )
    with pytest.raises(SpoolUnavailable, match="checksum"):
        store.next_due(1e15, limit=100)
    _, lost = check(store, history)
    assert not lost
    store.close()


@pytest.mark.parametrize("step", range(1, 7))
def test_a_crash_in_the_middle_of_a_repair_is_gone_on_with(tmp_path, step, monkeypatch):
    history = History(tmp_path, 11, 90)
    history.live(in_order=True)
    data = bytearray((tmp_path / "spool.sqlite").read_bytes())
    for page in range(20, len(data) // PAGE, 7):
        data[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
    (tmp_path / "spool.sqlite").write_bytes(data)
    crashes = {
        1: ("edge_agent.spool.repair._sync_directory", 1),  # journal written
        2: ("edge_agent.spool.repair._sync_directory", 2),  # renamed
        3: ("edge_agent.spool.repair.SpoolFindings.__init__", 1),  # new one open
        4: ("edge_agent.spool.repair.SpoolFindings.payload", 40),  # some taken over
        5: ("edge_agent.spool.repair.SpoolRepair._finish", 1),
        6: ("edge_agent.spool.repair.SpoolRepair._write_journal", 2),
    }
    name, count = crashes[step]
    calls = 0

    def crash(*_args, **_kwargs):
        raise KeyboardInterrupt

    target, attribute = name.rsplit(".", 1)
    owner = _resolve(target)
    original = getattr(owner, attribute)

    def counted(*args, **kwargs):
        nonlocal calls
        calls += 1
        return crash() if calls == count else original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, attribute, counted)
        store = Spool(tmp_path / "spool.sqlite", max_bytes=1_000_000_000, reserve_bytes=0)
        with pytest.raises(KeyboardInterrupt):
            store.open()
    for connection in (store._database._writer, store._database._reader):
        if connection is not None:
            connection.close()
    again = opened(tmp_path)
    rows, lost = check(again, history)
    assert rows
    assert lost
    assert len(damaged_spools(tmp_path)) == 1
    assert not (tmp_path / "spool.sqlite.repair").exists()
    again.close()


def _resolve(name):
    import importlib  # noqa: PLC0415

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(_resolve(module), attribute)


def test_marks_that_are_damaged_do_not_hurt_a_sound_spool(tmp_path):
    history = History(tmp_path, 2, 50)
    history.live(in_order=True)
    (tmp_path / "spool.marks").write_bytes(b"\xff" * 5000)
    store = opened(tmp_path)
    _, lost = check(store, history)
    assert not lost
    assert store.next_sequence == 50
    store.close()


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
