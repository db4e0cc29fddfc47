"""A record of any size: its first cases are written by the record's own writer, the others are their copies.

Copies differ in what must differ (keys, codes, days); everything else is byte for byte what the writer wrote, indices and
sums included, so that a large record is what the same traffic would have left, without its weeks.
"""

import hashlib
import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from broker_config.device_messages import DeviceState
from broker_config.fleet_messages import WorkerState
from broker_config.messages import CLASSES, Diagnosis, Frame, Message, ModelIdentity, Quality, Timings, now
from clinician_dashboard.record import Record, RecordReader, RecordWriter
from clinician_dashboard.record.case_filter import CaseFilter
from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.record.writing import words_of

BASE_CASES = 1000
FRAMES_A_CASE = 10
SIGNED_SHARE = 0.5
DATABASE = "record.sqlite"
_SITES = ("north", "south", "harbour")
_DEVICES = 12
_UNANSWERED = 0.005
_REFERRED = 0.15
_BATCH = 250
_DIGITS = 6


class BaseTraffic:
    """Frames and diagnoses of `BASE_CASES` cases, spread over sites, microscopes and classes.

    Args:
        seed: Of everything random.
        pictures: Images, used again with another ending each.
    """

    def __init__(self, *, seed: int, pictures: Sequence[bytes]) -> None:
        self._random = random.Random(seed)
        self._pictures = pictures
        self._sequences = [0] * _DEVICES

    def fleet(self) -> list[Message]:
        """Return the states of microscopes and of a worker."""
        devices: list[Message] = [
            DeviceState(
                site=_site(number),
                device=f"scope-{number:02d}",
                presence="online",
                birth=1,
                at=now(),
                camera="bench",
                simulated=True,
            )
            for number in range(_DEVICES)
        ]
        return [
            *devices,
            WorkerState(worker="worker-bench", presence="online", birth=1, at=now(), pool="bench"),
        ]

    def batches(self) -> Iterator[list[Message]]:
        """Yield the messages of all cases in batches."""
        batch: list[Message] = []
        for case in range(BASE_CASES):
            leading = self._random.choice(CLASSES)
            for _ in range(FRAMES_A_CASE):
                batch += self._pair(case, leading)
            if len(batch) >= _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def _pair(self, case: int, leading: str) -> list[Message]:
        number = case % _DEVICES
        sequence = self._sequences[number]
        self._sequences[number] += 1
        picture = self._random.choice(self._pictures) + self._random.randbytes(8)
        top = self._random.uniform(0.45, 0.99)
        quality = Quality(
            focus=self._random.uniform(8, 60),
            focus_threshold=10.0,
            brightness=0.7,
            foreground=0.3,
            flags=("soft_focus",) if self._random.random() < 0.1 else (),  # noqa: PLR2004
        )
        frame = Frame(
            frame_id=f"{self._random.getrandbits(128):032x}",
            case=f"HL-{case:0{_DIGITS}d}",
            site=_site(number),
            device=f"scope-{number:02d}",
            priority="stat" if case % 20 == 0 else "routine",
            sequence=sequence,
            captured_at=now() - timedelta(seconds=self._random.uniform(1, 3600)),
            encoding="jpeg",
            width=640,
            height=480,
            pixel_size_um=0.25,
            quality=quality,
            simulated=True,
            image=picture,
            image_sha256=hashlib.sha256(picture).hexdigest(),
        )
        if self._random.random() < _UNANSWERED:
            return [frame]
        referred = self._random.random() < _REFERRED
        score = self._random.gauss(10, 4)
        grid = [[round(self._random.random(), 4) for _ in range(7)] for _ in range(7)]
        diagnosis = Diagnosis(
            frame_id=frame.frame_id,
            case=frame.case,
            site=frame.site,
            device=frame.device,
            captured_at=frame.captured_at,
            diagnosed_at=now(),
            worker="worker-bench",
            model=ModelIdentity(
                name="bench",
                version=f"1.{case % 2}.0",
                weights_sha256=hashlib.sha256(f"bench {case % 2}".encode()).hexdigest(),
                architecture="resnet34",
                engine="openvino-bf16",
                training_data="none: a bench",
                simulated=True,
            ),
            probabilities={name: top if name == leading else (1 - top) / 4 for name in CLASSES},
            prediction=leading,
            prediction_set=CLASSES if referred else (leading,),
            decision="refer" if referred else "report",
            reasons=("prediction_set: more than one class cannot be excluded",) if referred else (),
            quality=quality,
            ood_score=score,
            ood_threshold=20.0,
            activation=grid,
            timings=Timings(queue_ms=4, decode_ms=2, inference_ms=6),
            image_sha256=frame.image_sha256,
            frame_simulated=True,
        )
        return [frame, diagnosis]


def _site(number: int) -> str:
    return _SITES[number % len(_SITES)]


def write_base(directory: Path, *, seed: int, pictures: Sequence[bytes], tell: Callable[[str], None]) -> None:
    """Write `BASE_CASES` cases with the record's own writer; some are then signed, at every microscope."""
    record = Record(f"sqlite:///{directory / DATABASE}", directory)
    record.start()
    try:
        writer = RecordWriter(record)
        traffic = BaseTraffic(seed=seed, pictures=pictures)
        writer.apply(traffic.fleet())
        done = 0
        for batch in traffic.batches():
            writer.apply(batch)
            done += len({item.case for item in batch if isinstance(item, Frame)})
            tell(f"writing the first cases: {done} of {BASE_CASES}")
        with record.transaction() as session:
            ids = session.scalars(select(CaseRow.id).order_by(CaseRow.id)).all()
            for case_id in random.Random(seed).sample(ids, round(BASE_CASES * SIGNED_SHARE)):
                case = session.get_one(CaseRow, case_id)
                case.status, case.signed_at = "signed", now()
        assert RecordReader(record).worklist(CaseFilter(), limit=1).matching == BASE_CASES  # noqa: S101
    finally:
        record.stop()


def copy_record(source: Path, target: Path) -> None:
    """Copy a closed record; its images are linked, not copied."""
    target.mkdir()
    shutil.copy2(source / DATABASE, target / DATABASE)
    shutil.copytree(source / "images", target / "images", copy_function=os.link)


def multiply(directory: Path, *, cases: int, tell: Callable[[str], None]) -> None:
    """Add copies of the base's cases until there are ``cases``, a multiple of `BASE_CASES`; each copy is a day older."""
    connection = sqlite3.connect(directory / DATABASE, isolation_level=None)
    try:
        connection.execute("pragma synchronous=off")  # a bench's record may be lost with the power
        connection.execute("pragma cache_size=-600000")
        tables = {
            name: _Copied(connection, name)
            for name in ("cases", "frames", "diagnoses", "case_devices", "days")
        }
        copies = cases // BASE_CASES
        for copy in range(1, copies):
            connection.execute("begin")
            _add_copy(connection, tables, copy)
            connection.execute("commit")
            tell(f"filling: {(copy + 1) * BASE_CASES} of {cases} cases")
        for counts in ("case_counts", "device_counts"):
            connection.execute(f"update {counts} set cases = cases * ?", (copies,))  # noqa: S608 - names of ours
        connection.execute("update ledgers set top = top * ?", (copies,))
        connection.execute("pragma wal_checkpoint(truncate)")
    finally:
        connection.close()


class _Copied:
    """A table's rows as they lie there, and where its columns are."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self.name = name
        self.columns = [row[1] for row in connection.execute(f"pragma table_info({name})")]
        self.rows = connection.execute(f"select * from {name}").fetchall()  # noqa: S608 - names of ours
        self.insert = f"insert into {name} values ({','.join('?' * len(self.columns))})"  # noqa: S608

    def changed(self, changes: dict[str, Callable[[Any], Any]]) -> Iterator[list[Any]]:
        """Yield the rows with some columns changed."""
        at = [(self.columns.index(name), change) for name, change in changes.items() if name in self.columns]
        for row in self.rows:
            fresh = list(row)
            for index, change in at:
                if fresh[index] is not None:
                    fresh[index] = change(fresh[index])
            yield fresh


def _add_copy(connection: sqlite3.Connection, tables: dict[str, _Copied], copy: int) -> None:
    days: dict[str, str] = {}

    def moment(text: str) -> str:
        day = text[:10]
        if day not in days:
            days[day] = (date.fromisoformat(day) - timedelta(days=copy)).isoformat()
        return days[day] + text[10:]

    def code(text: str) -> str:
        return f"HL-{int(text[3:]) + copy * BASE_CASES:0{_DIGITS}d}"

    times = ("captured_at", "received_at", "recorded_at", "diagnosed_at", "opened_at", "changed_at")
    changes: dict[str, Callable[[Any], Any]] = {
        **dict.fromkeys((*times, "first_result_at", "signed_at", "day"), moment),
        "code": code,
        "case_code": code,
        "case_id": lambda number: number + copy * BASE_CASES,
        "frame_id": lambda text: f"{copy * 2654435761 % 65536:04x}{text[4:29]}{copy:03x}",
        "sequence": lambda number: number + copy * BASE_CASES * FRAMES_A_CASE,
    }
    diagnoses = len(tables["diagnoses"].rows)
    for name, table in tables.items():
        own = dict(changes)
        if name == "cases":
            own["id"] = changes["case_id"]
        if name == "diagnoses":
            own["id"] = lambda number: number + copy * diagnoses
        connection.executemany(table.insert, table.changed(own))
    codes = tables["cases"].columns.index("code"), tables["cases"].columns.index("id")
    connection.executemany(
        "insert into case_words (word, case_id) values (?, ?)",
        (
            (word, row[codes[1]] + copy * BASE_CASES)
            for row in tables["cases"].rows
            for word in words_of(code(row[codes[0]]))
        ),
    )
