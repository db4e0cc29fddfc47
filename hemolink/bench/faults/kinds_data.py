"""Faults of what a process stands on: its disk, its database, its clock."""

import sqlite3
from contextlib import closing
from pathlib import Path

from hemolink.bench.faults.evidence import SPOOL
from hemolink.bench.faults.scene import Scene, Undo
from hemolink.bench.faults.schedule import Event

_DAY_S = 86_400
_JUMPS_S = (-30 * _DAY_S, -2 * _DAY_S, -3600, -90, 90, 3600, 2 * _DAY_S, 30 * _DAY_S)
_HEADER_BYTES = 100


def fill_disk(scene: Scene, event: Event) -> Undo:
    """Leave no byte free on the disk under an edge's spool, or under the record."""
    disk = scene.plant.disks[event.target]
    disk.fill()
    return disk.empty


def jump_clock(scene: Scene, event: Event) -> Undo:
    """Set one process's wall clock wrong, by a minute or a month; put it right afterwards."""
    clock = scene.plant.clocks[event.target]
    clock.jump(_JUMPS_S[int(event.chance * len(_JUMPS_S))])
    return clock.right


def lock_record(scene: Scene, event: Event) -> Undo:
    """Hold the record's write lock, as a backup program or a curious person might."""
    del event
    lock = sqlite3.connect(scene.plant.record_database, timeout=5.0, isolation_level=None)
    try:
        lock.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        lock.close()
        raise

    def let_go() -> None:
        with closing(lock):
            lock.execute("ROLLBACK")

    return let_go


def corrupt_spool(scene: Scene, event: Event) -> Undo:
    """Kill an edge, flip bytes in one page of its spool, and let it start on that.

    What the spool held is noted first: whatever the page costs, the edge must say so, frame by frame.
    """
    member = scene.plant.members[event.target]
    member.hold()
    spool = scene.plant.home(event.target) / SPOOL
    try:
        for row in scene.reader.spool_rows(event.target):  # reading also brings the log of writes home
            scene.known[row.frame_id] = row
    except sqlite3.Error:
        return member.release  # a disk that is full, or a page that is bad already: it is hurt enough
    damage_page(spool, chance=event.chance)
    return member.release


def damage_page(path: Path, *, chance: float) -> int:
    """Flip the bytes of half a page of a SQLite database, never of the first page.

    Args:
        path: The database; nobody may have it open.
        chance: 0 to 1: which page.

    Returns:
        The page's number from 0, or 0 if there is none but the first.
    """
    size = path.stat().st_size
    with path.open("r+b") as database:
        header = database.read(_HEADER_BYTES)
        page_size = int.from_bytes(header[16:18], "big") or 4096
        page_size = 65_536 if page_size == 1 else page_size
        pages = size // page_size
        if pages < 2:  # noqa: PLR2004 - the first is the header's
            return 0
        page = 1 + int(chance * (pages - 1))
        start = page * page_size
        database.seek(start)
        content = bytearray(database.read(page_size))
        for index in range(len(content) // 2):
            content[index] ^= 0x5A
        database.seek(start)
        database.write(content)
    return page
