"""``hemolink bench spool``: what a frame costs in an almost empty and in a full spool, beside a plain SQLite loop.

The cost is that of a frame's whole life in the spool: add (synced to the disk), find it due, read it, note it as sent, delete it
on its receipt. Small spool, large spool, a spool that only takes in, and a plain loop of inserts take turns in short blocks, in
changing order, so that whatever else the machine does hits all of them. The ratio compares the blocks of one round.
"""

import json
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edge_agent.spool import Spool, SpooledFrame
    from hemolink.console import Console

LIMIT = 1.1
STEPS = ("add", "next_due", "payload", "mark_sent", "settle")
_OVERHEAD = 1.1  # what SQLite adds to the payloads
_FILL_AT_ONCE = 50
_SPARE_BYTES = 500_000_000
_NEVER = 1e15


@dataclass
class Course:
    """One of those that take turns.

    Attributes:
        run: Does one frame and returns the seconds of each step.
        frames: Seconds of each step of each frame.
        blocks: Mean seconds a frame of each block.
    """

    run: Callable[[], list[float]]
    frames: list[list[float]] = field(default_factory=list)
    blocks: list[float] = field(default_factory=list)

    def block(self, size: int) -> None:
        """Do so many frames."""
        taken = [self.run() for _ in range(size)]
        self.frames += taken
        self.blocks.append(sum(map(sum, taken)) / size)


@click.command()
@click.option(
    "--small", type=click.IntRange(1), default=1000, show_default=True, help="Frames in the small spool."
)
@click.option(
    "--large", type=click.IntRange(1), default=100_000, show_default=True, help="Frames in the large one."
)
@click.option(
    "--kb", type=click.IntRange(1), default=60, show_default=True, help="Size of a frame in kB (1000 bytes)."
)
@click.option("--rounds", type=click.IntRange(2), default=40, show_default=True, help="Turns of each.")
@click.option("--block", type=click.IntRange(1), default=50, show_default=True, help="Frames a turn.")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default=Path(tempfile.gettempdir()),
    help="On which disk; the spools are made in a folder of their own, and removed.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Seed of the frames' bytes."
)
@click.option("--json", "as_json", is_flag=True, help="The last line of standard output is one JSON object.")
def spool(
    *, small: int, large: int, kb: int, rounds: int, block: int, directory: Path, seed: int, as_json: bool
) -> None:
    """Compare the cost of a frame in an almost empty spool with that in a full one.

    Exit code 1 when a frame costs more than 1.1 times as much in the full one. The full size needs about 7 GB of disk.
    """
    from hemolink.console import console_for  # noqa: PLC0415 - the bench alone pays for what it uses

    console = console_for(as_json=as_json)
    wanted = int((small + large) * kb * 1000 * _OVERHEAD) + _SPARE_BYTES
    free = shutil.disk_usage(directory).free
    if free < wanted:
        raise click.ClickException(
            f"{directory} has {free / 1e9:.1f} GB free, and this needs {wanted / 1e9:.1f} GB: name a folder on another disk "
            "with --directory, or a smaller --large"
        )
    console.say(
        f"spools of {small} and {large} frames of {kb} kB in {directory}, {wanted / 1e9:.1f} GB at most"
    )
    with tempfile.TemporaryDirectory(prefix="hemolink-bench-spool-", dir=directory) as folder:
        result = measure(
            Path(folder),
            depths=(small, large),
            size=kb * 1000,
            rounds=rounds,
            block=block,
            random=Random(seed),
            console=console,
        )
    _show(result, console)
    if as_json:
        click.echo(json.dumps(result))
    if not result["holds"]:
        raise SystemExit(1)


def measure(
    folder: Path,
    *,
    depths: tuple[int, int],
    size: int,
    rounds: int,
    block: int,
    random: Random,
    console: "Console",
) -> dict[str, Any]:
    """Fill both spools, let all take turns, and return the figures."""
    payload = random.randbytes(size)
    fill_started = time.perf_counter()
    spools = [
        _filled(folder / f"{number}-of-{depth}", depth, payload, random, console)
        for number, depth in enumerate(depths)
    ]
    fill_s = time.perf_counter() - fill_started
    adding = _filled(folder / "adding", 0, payload, random, console)
    plain = _plain(folder / "plain.sqlite")
    courses = {
        "small": Course(lambda: _life(spools[0], payload, random)),
        "large": Course(lambda: _life(spools[1], payload, random)),
        "adding": Course(lambda: _add(adding, payload, random)),
        "plain": Course(lambda: _insert(plain, payload)),
    }
    for turn in range(rounds):
        console.live(f"measuring {turn + 1} of {rounds}")
        order = list(courses.values())
        random.shuffle(order)
        for course in order:
            course.block(block)
    jolt_ms = _jolt(spools[1])
    for store in (*spools, adding):
        store.close()
    plain.close()
    return _result(courses, depths=depths, size=size, rate=sum(depths) / fill_s) | {
        "hasten_and_recount_ms": jolt_ms
    }


def _filled(folder: Path, depth: int, payload: bytes, random: Random, console: "Console") -> "Spool":
    from edge_agent.spool import FILE_NAME, Spool  # noqa: PLC0415

    folder.mkdir()
    store = Spool(folder / FILE_NAME, max_bytes=1 << 50)
    store.open()
    done = 0
    while done < depth:
        part = min(_FILL_AT_ONCE, depth - done)
        with store.batch():
            for number in range(done, done + part):
                store.add(_frame(number, payload, random))
        done += part
        width = 40 * done // depth
        console.live(f"filling [{'#' * width}{'.' * (40 - width)}] {done} of {depth}")
    return store


def _frame(number: int, payload: bytes, random: Random) -> "SpooledFrame":
    from edge_agent.spool import SpooledFrame  # noqa: PLC0415

    return SpooledFrame(
        frame_id=f"{random.getrandbits(128):032x}",
        sequence=number,
        priority="routine",
        case="BENCH-1",
        captured_at="2026-01-31T12:00:00+00:00",
        payload=payload,
    )


def _life(store: "Spool", payload: bytes, random: Random) -> list[float]:
    """Take one frame in and the oldest out; the depth stays. Returns the seconds of each of `STEPS`."""
    frame = _frame(store.next_sequence, payload, random)
    times = [time.perf_counter()]
    store.add(frame)
    times.append(time.perf_counter())
    (oldest,) = store.next_due(_NEVER)
    times.append(time.perf_counter())
    found = store.payload(oldest.frame_id)
    times.append(time.perf_counter())
    store.mark_sent(oldest.frame_id, due_at=_NEVER)
    times.append(time.perf_counter())
    settled = store.settle(oldest.frame_id)
    times.append(time.perf_counter())
    if found != payload or not settled:
        raise click.ClickException("the spool gave back something else than was put in")
    return [later - earlier for earlier, later in pairwise(times)]


def _add(store: "Spool", payload: bytes, random: Random) -> list[float]:
    """Take one frame in; returns the seconds."""
    frame = _frame(store.next_sequence, payload, random)
    started = time.perf_counter()
    store.add(frame)
    return [time.perf_counter() - started]


def _jolt(store: "Spool") -> float:
    """Return the milliseconds of what an edge does to the whole spool when the broker comes back."""
    started = time.perf_counter()
    store.hasten(due_at=0.0)
    store.next_due_at()
    store.recount()
    return round((time.perf_counter() - started) * 1000, 3)


def _plain(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE frames (number INTEGER PRIMARY KEY, payload BLOB NOT NULL)")
    return connection


def _insert(connection: sqlite3.Connection, payload: bytes) -> list[float]:
    started = time.perf_counter()
    connection.execute("INSERT INTO frames (payload) VALUES (?)", (payload,))
    return [time.perf_counter() - started]


def _result(courses: dict[str, Course], *, depths: tuple[int, int], size: int, rate: float) -> dict[str, Any]:
    small, large, adding, plain = (courses[name] for name in ("small", "large", "adding", "plain"))
    pairs = sorted(two / one for one, two in zip(small.blocks, large.blocks, strict=True))
    ratio = statistics.median(pairs)
    quarter = len(pairs) // 4
    adds, insert = statistics.median(adding.blocks), statistics.median(plain.blocks)
    share = statistics.median(two / one for one, two in zip(adding.blocks, plain.blocks, strict=True))
    return {
        "small": depths[0],
        "large": depths[1],
        "payload_bytes": size,
        "frames_each": len(small.frames),
        "cost_small_us": _us(statistics.median(small.blocks)),
        "cost_large_us": _us(statistics.median(large.blocks)),
        "ratio": round(ratio, 3),
        "ratio_quartiles": [round(pairs[quarter], 3), round(pairs[-1 - quarter], 3)],
        "limit": LIMIT,
        "holds": ratio <= LIMIT,
        "steps_small_us": _steps(small),
        "steps_large_us": _steps(large),
        "plain_insert_us": _us(insert),
        "add_us": _us(adds),
        "plain_inserts_per_s": round(1 / insert),
        "adds_per_s": round(1 / adds),
        "adds_of_plain": round(share, 3),
        "fill_per_s": round(rate),
    }


def _steps(course: Course) -> dict[str, float]:
    columns = zip(*course.frames, strict=True)
    return {name: _us(statistics.median(column)) for name, column in zip(STEPS, columns, strict=True)}


def _us(seconds: float) -> float:
    return round(seconds * 1e6, 1)


def _show(result: dict[str, Any], console: "Console") -> None:
    console.say(
        f"{'':14}{'small':>12}{'large':>12}   microseconds, median of {result['frames_each']} frames each"
    )
    for name in STEPS:
        console.say(
            f"  {name:12}{result['steps_small_us'][name]:12.1f}{result['steps_large_us'][name]:12.1f}"
        )
    console.say(
        f"  {'whole life':12}{result['cost_small_us']:12.1f}{result['cost_large_us']:12.1f}   median of blocks' means, "
        "checkpoints included"
    )
    low, high = result["ratio_quartiles"]
    console.say(
        f"large / small, round by round: {result['ratio']:.3f} (quartiles {low:.3f} to {high:.3f}; limit {LIMIT}): "
        + ("holds" if result["holds"] else "DOES NOT HOLD")
    )
    console.say(
        f"synced adds: {result['adds_per_s']} a second, {result['adds_of_plain']:.0%} of a plain SQLite loop beside it "
        f"({result['plain_inserts_per_s']} a second)"
    )
    console.say(f"hasten, next due and totals of the large spool: {result['hasten_and_recount_ms']} ms")
