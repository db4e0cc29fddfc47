"""What was done to a spool, its damage, and what must be in it afterwards."""

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.errors import SpoolUnavailable
from edge_agent.spool import Spool, SpooledFrame

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
