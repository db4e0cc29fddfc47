"""Faults of what a process stands on: its disk, its database, its clock."""

import contextlib
import sqlite3
from contextlib import closing
from pathlib import Path

from hemolink.bench.faults.evidence import SPOOL
from hemolink.bench.faults.scene import Scene, Undo
from hemolink.bench.faults.schedule import Event

_DAY_S = 86_400
_JUMPS_S = (-30 * _DAY_S, -2 * _DAY_S, -3600, -90, 90, 3600, 2 * _DAY_S, 30 * _DAY_S)
_PAGE = 4096


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
    return _corrupt(scene, event, file=SPOOL, first_page=1)


def corrupt_spool_log(scene: Scene, event: Event) -> Undo:
    """Do the same in the write-ahead log: SQLite then forgets, in silence, all that was committed after the place."""
    return _corrupt(scene, event, file=f"{SPOOL}-wal", first_page=0)


def _corrupt(scene: Scene, event: Event, *, file: str, first_page: int) -> Undo:
    member = scene.plant.members[event.target]
    member.hold()
    # A page that is bad already, or a log that is not there: it is killed, and that is all.
    with contextlib.suppress(sqlite3.Error, OSError):
        for row in scene.reader.spool_rows(event.target):
            scene.known[row.frame_id] = row
        damage_page(scene.plant.home(event.target) / file, chance=event.chance, first=first_page)
    return member.release


def damage_page(path: Path, *, chance: float, first: int = 1) -> int | None:
    """Flip the bytes of half a page of a SQLite file.

    Args:
        path: The file; nobody may have it open.
        chance: 0 to 1: which page.
        first: The first page that may be hit; page 0 of a database is its header's.

    Returns:
        The page's number from 0, or None if there is no such page.
    """
    size = path.stat().st_size
    with path.open("r+b") as database:
        pages = size // _PAGE
        if pages <= first:
            return None
        page = first + int(chance * (pages - first))
        start = page * _PAGE
        database.seek(start)
        content = bytearray(database.read(_PAGE))
        for index in range(len(content) // 2):
            content[index] ^= 0x5A
        database.seek(start)
        database.write(content)
    return page
