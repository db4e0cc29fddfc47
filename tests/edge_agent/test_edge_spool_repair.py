"""Repair: what is beyond recovery is named, and a crash in its middle is gone on with."""

import pytest

from edge_agent.spool import Spool, damaged_spools
from tests.edge_agent.spool_history import PAGE, History, check, opened


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
