"""Asks two dashboards the same questions in turn, one with few cases and one with many, and takes the times."""

import http.client
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import text

from clinician_dashboard.access.access import Access
from clinician_dashboard.access.roles import SYSTEM
from clinician_dashboard.access.settings import SignInSettings
from clinician_dashboard.move import move_to_server
from clinician_dashboard.record import Record
from clinician_dashboard.record.engines import address_of, make_engine
from hemolink.bench.desk_fill import BASE_CASES, DATABASE, copy_record, multiply, write_base
from hemolink.bench.process_cost import ProcessCost
from hemolink.bench.worker_rates import images
from hemolink.child import Child
from hemolink.errors import FrontDoorError

SIZES = ("small", "large")
MOST_MS = 100.0
MOST_TIMES = 1.5
_ALIKE = 0.9
_LITTLE_MS = 5.0
"""What is quicker than this in the large record is not held to a ratio: it is the web server's own time."""


@dataclass(frozen=True)
class Question:
    """A page or an answer of the API; ``path`` makes its address for a record of so many cases.

    Attributes:
        name: For the table.
        path: From the number of cases and the round's chance.
        judged: Whether the issue's bounds hold for it; others are told only.
    """

    name: str
    path: Callable[[int, random.Random], str]
    judged: bool = True


def _code(cases: int, chance: random.Random) -> str:
    return f"HL-{chance.randrange(cases):06d}"


def _device(chance: random.Random) -> str:
    return f"scope-{chance.randrange(12):02d}"


def _case(cases: int, chance: random.Random) -> str:
    number = chance.randrange(cases)
    return f"/cases/{('north', 'south', 'harbour')[number % BASE_CASES % 12 % 3]}/HL-{number:06d}"


QUESTIONS = (
    Question("worklist", lambda _cases, _chance: "/"),
    Question(
        "worklist, one urgency", lambda _cases, chance: f"/?urgency={chance.choice(['critical', 'refer'])}"
    ),
    Question("worklist, signed", lambda _cases, _chance: "/?status=signed"),
    Question("worklist, one site", lambda _cases, _chance: "/?site=harbour"),
    Question("worklist, one microscope", lambda _cases, chance: f"/?device={_device(chance)}"),
    Question("same, signed ones too", lambda _cases, chance: f"/?status=all&device={_device(chance)}"),
    Question("worklist, of today", lambda _cases, _chance: "/?age=day"),
    Question("search, a whole code", lambda cases, chance: f"/?status=all&q={_code(cases, chance)}"),
    Question("search, part of a code", lambda cases, chance: f"/?status=all&q={_code(cases, chance)[-4:]}"),
    Question("search, what many have", lambda _cases, _chance: "/?status=all&q=HL-0"),
    Question("search, a site", lambda _cases, _chance: "/?q=harb"),
    Question("search, a class", lambda _cases, _chance: "/?q=AML"),
    Question("search, nothing found", lambda _cases, _chance: "/?status=all&q=zebra"),
    Question("case page", _case),
    Question("API: cases", lambda _cases, _chance: "/api/v1/cases?limit=60"),
    Question("quality over time", lambda _cases, _chance: "/quality", judged=False),
    Question("health", lambda _cases, _chance: "/health", judged=False),
    Question("fleet", lambda _cases, _chance: "/fleet", judged=False),
)


@dataclass
class Answered:
    """The times of one question in milliseconds, by size: of the whole answer, and of the daemon's processor."""

    question: Question
    small: list[float] = field(default_factory=list)
    large: list[float] = field(default_factory=list)
    small_cpu: list[float] = field(default_factory=list)
    large_cpu: list[float] = field(default_factory=list)
    small_rows: int = 0
    large_rows: int = 0

    @property
    def times(self) -> float:
        """Processor time in the large record over that in the small one, by medians: other work does not change it."""
        return statistics.median(self.large_cpu) / max(0.01, statistics.median(self.small_cpu))

    @property
    def holds(self) -> bool:
        """Whether the bounds hold: the large record's 95th percentile, and the ratio of the processor's medians."""
        if not self.question.judged:
            return True
        quick = statistics.median(self.large_cpu) < _LITTLE_MS
        return percentile(self.large, 0.95) < MOST_MS and (
            quick or not self.comparable or self.times <= MOST_TIMES
        )

    @property
    def comparable(self) -> bool:
        """Whether both showed about as many rows: a page of more rows takes longer, however it was found."""
        return self.small_rows >= _ALIKE * self.large_rows

    def as_json(self) -> dict[str, Any]:
        """Return the figures as plain fields."""
        return {
            "small": {"p50_ms": _ms(self.small, 0.5), "p95_ms": _ms(self.small, 0.95)},
            "large": {"p50_ms": _ms(self.large, 0.5), "p95_ms": _ms(self.large, 0.95)},
            "cpu_ms": {"small": _ms(self.small_cpu, 0.5), "large": _ms(self.large_cpu, 0.5)},
            "rows": {"small": self.small_rows, "large": self.large_rows},
            "times": round(self.times, 2),
            "comparable": self.comparable,
            "judged": self.question.judged,
            "holds": self.holds,
        }


def percentile(values: list[float], share: float) -> float:
    """Return the value below which ``share`` of them lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _ms(values: list[float], share: float) -> float:
    return round(percentile(values, share), 1)


class DeskRun:
    """Fills two records, starts a dashboard on each, and asks.

    Args:
        cases: Of the large record; the small one has 1,000.
        rounds: How often each question is asked of each.
        seed: Of the records and of the questions.
        directory: Where all of it lies.
        tell: Told how far it is.
        servers: Empty databases at a server for the small and the large record; in files if there are none.
    """

    def __init__(
        self,
        *,
        cases: int,
        rounds: int,
        seed: int,
        directory: Path,
        tell: Callable[[str], None],
        servers: Sequence[str] = (),
    ) -> None:
        self._cases = cases
        self._rounds = rounds
        self._seed = seed
        self._directory = directory
        self._tell = tell
        self._servers = dict(zip(SIZES, servers, strict=False))
        self.fill_s = 0.0
        self.database_mb = 0.0
        self.diagnoses = 0
        self.rss_mb: dict[str, float] = {}

    def run(self) -> list[Answered]:
        """Fill and ask.

        Raises:
            FrontDoorError: If a dashboard does not start, or answers with an error.
        """
        self.fill()
        return self.ask()

    def fill(self) -> None:
        """Write the two records."""
        small, large = self._directory / "small", self._directory / "large"
        began = time.monotonic()
        write_base(small, seed=self._seed, pictures=images(self._seed)[:8], tell=self._tell)
        copy_record(small, large)
        multiply(large, cases=self._cases, tell=self._tell)
        for name, url in self._servers.items():
            _move(self._directory / name, url, tell=self._tell)
        self.fill_s = time.monotonic() - began

    def ask(self) -> list[Answered]:
        """Start a dashboard on each record, and ask."""
        records = [self._record(name) for name in SIZES]
        tokens = [_make_token(record) for record in records]
        self.database_mb = _megabytes(records[1])
        with ExitStack() as stack:
            desks = [self._start(stack, name) for name in SIZES]
            askers = [_Asker(desk, token) for desk, token in zip(desks, tokens, strict=True)]
            self.diagnoses = int(askers[1].get_json("/api/v1/summary")["recorded"])
            answered = [Answered(question) for question in QUESTIONS]
            for number in range(-1, self._rounds):
                self._tell(f"asking: round {number + 1} of {self._rounds}")
                for one in answered:
                    self._ask(one, askers, number=number)
            for name, desk in zip(SIZES, desks, strict=True):
                assert desk.process is not None  # noqa: S101 - started
                self.rss_mb[name] = round(ProcessCost(desk.process.pid).resident_mb, 1)
        return answered

    def _ask(self, one: Answered, askers: "list[_Asker]", *, number: int) -> None:
        sizes = (BASE_CASES, self._cases)
        for which in (0, 1) if number % 2 else (1, 0):  # each goes first in its turn
            chance = random.Random(f"{self._seed} {number} {one.question.name}")
            took, used, rows = askers[which].time(one.question.path(sizes[which], chance))
            if number >= 0:  # the first round warms up
                one.small_rows += 0 if which else rows
                one.large_rows += rows if which else 0
                (one.small, one.large)[which].append(took * 1e3)
                (one.small_cpu, one.large_cpu)[which].append(used * 1e3)

    def _record(self, name: str) -> Record:
        directory = self._directory / name
        return Record(
            self._servers.get(name, f"sqlite:///{directory / DATABASE}"), directory, password=_password
        )

    def _start(self, stack: ExitStack, name: str) -> Child:
        server = {}
        if name in self._servers:
            secret = self._directory / "database.password"
            secret.touch(mode=0o600)
            secret.write_text(_password() or "", encoding="utf-8")
            server = {"database_url": self._servers[name], "database_password_file": str(secret)}
        child = Child(
            "dashboard",
            module="clinician_dashboard",
            settings={
                "directory": str(self._directory / name),
                **server,
                "broker": {"port": 1},  # nobody is there: only pages are asked for
                "port": 0,
                "log": {"level": "ERROR"},
            },
            directory=self._directory,
            name=f"dashboard-{name}",
        )
        child.start()
        stack.callback(child.stop, timeout_s=30)
        deadline = time.monotonic() + 120
        while "web" not in child.ports():
            child.check()
            if time.monotonic() > deadline:
                raise FrontDoorError(f"the dashboard did not start. {child.last_words()}")
            time.sleep(0.05)
        return child


def _password() -> str | None:
    return os.environ.get("HEMOLINK_DATABASE_PASSWORD")


def _move(directory: Path, url: str, *, tell: Callable[[str], None]) -> None:
    address = address_of(url)
    server = make_engine(address, password=_password, writing=True, patient=True)
    try:
        move_to_server(
            directory,
            server,
            place=address.render_as_string(),
            progress=lambda done, whole: tell(f"moving to the server: {done} of {whole} rows"),
        )
    finally:
        server.dispose()


def _megabytes(record: Record) -> float:
    if record.file is not None:
        return record.file.stat().st_size / 1e6
    record.start()
    try:
        with record.session() as session:
            return float(session.scalar(text("select pg_database_size(current_database())"))) / 1e6
    finally:
        record.stop()


def _make_token(record: Record) -> str:
    record.start()
    try:
        access = Access(record, SignInSettings())
        return access.tokens.create("bench", role="lab_lead", by=SYSTEM, days=1)
    finally:
        record.stop()


class _Asker:
    """One kept connection to a dashboard."""

    def __init__(self, desk: Child, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", desk.ports()["web"], timeout=60)
        assert desk.process is not None  # noqa: S101 - started
        self._cost = ProcessCost(desk.process.pid)
        self._headers = {"Authorization": f"Bearer {token}"}

    def time(self, path: str) -> tuple[float, float, int]:
        """Return the seconds to the last byte of the answer, the daemon's processor seconds, and the rows shown."""
        used, began = self._cost.exact_cpu_s, time.perf_counter()
        body = self._get(path)
        took = time.perf_counter() - began
        return (
            took,
            self._cost.exact_cpu_s - used,
            body.count(b"data-key=") + body.count(b'"first_result_at"'),
        )

    def get_json(self, path: str) -> dict[str, Any]:
        """Return a JSON answer."""
        import json  # noqa: PLC0415 - once

        answer: dict[str, Any] = json.loads(self._get(path))
        return answer

    def _get(self, path: str) -> bytes:
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:  # noqa: PLR2004
            raise FrontDoorError(f"{path} was answered with {answer.status}: {body[:300]!r}")
        return body


def table(answered: list[Answered], *, cases: int) -> Iterator[str]:
    """Yield the figures as lines."""
    yield f"{'milliseconds':<32}{BASE_CASES:>11,} cases{cases:>14,} cases"
    yield f"{'(answer over loopback; processor)':<32}{'p50':>6}{'p95':>7}{'cpu':>6}{'p50':>9}{'p95':>7}{'cpu':>6}{'times':>7}"
    for one in answered:
        mark = "" if one.holds else "  DOES NOT HOLD"
        mark = mark or ("" if one.question.judged else "  (told only)")
        mark = mark or ("" if one.comparable else "  (more rows)")
        yield (
            f"{one.question.name:<32}{_ms(one.small, 0.5):>6}{_ms(one.small, 0.95):>7}{_ms(one.small_cpu, 0.5):>6}"
            f"{_ms(one.large, 0.5):>9}{_ms(one.large, 0.95):>7}{_ms(one.large_cpu, 0.5):>6}{one.times:>7.2f}{mark}"
        )


__all__ = ["Answered", "DeskRun", "table"]
