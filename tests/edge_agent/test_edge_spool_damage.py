"""Damage: whatever is done to the pages of a spool, each frame is there and intact, or is named."""

import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.errors import SpoolUnavailable
from edge_agent.spool import damaged_spools
from tests.edge_agent.spool_history import MEMORY, PAGE, History, check, damage, make_frame, opened

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
