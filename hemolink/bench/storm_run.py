"""One run of the storm: broker, crowds and record; the broker goes and comes back, and the return is measured."""

import json
import math
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from broker_config.authority import make_certificates
from broker_config.mosquitto import MosquittoProcess, ServerTls
from broker_config.roles import Member
from broker_config.session import BrokerSettings
from broker_config.site import write_site
from hemolink.bench.storm_crowd import SITE, device_name, raise_file_limit
from hemolink.bench.storm_record import StormRecord, retained_presences, wait_until
from hemolink.errors import NotReady

Outage = Literal["stop", "kill", "forget"]
"""How the broker goes: it saves and ends; it is killed and comes back with what it saved last; it comes back empty."""

PER_CROWD = 250
_RECORD = Member("dashboard", "record")
_FILES_EACH = 8
_START_S = 60.0
_QUIET_S = 3.0
_DRAIN_S = 60.0


@dataclass(frozen=True)
class Round:
    """One outage, and what came after; times in seconds since the broker listened again.

    Attributes:
        outage: How the broker went.
        down_s: How long it was away.
        connected: How many edges came back in time.
        p50_s: When half of them were connected.
        p99_s: When 99 of 100 were.
        last_s: When the last one was.
        born_s: When the record had seen every birth; none if it did not in time.
        refused: Tries that were refused while the broker listened: nothing listens, or a CONNACK that says no.
        unanswered: Tries that ended without an answer while it listened.
        overflows: How often the kernel found the broker's accept queue full (all listeners of this machine).
    """

    outage: str
    down_s: float
    connected: int
    p50_s: float | None
    p99_s: float | None
    last_s: float | None
    born_s: float | None
    refused: int
    unanswered: int
    overflows: int


class CrowdProcess:
    """A process of simulated edges.

    Args:
        order: What `hemolink.bench.storm_crowd` is told.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hemolink.bench.storm_crowd"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the bench, which ends them; so does the end of their input
        )
        self.counts: Counter[str] = Counter()
        self._report: list[dict[str, Any]] | None = None
        self._reported = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.tell(json.dumps(order))

    def tell(self, order: str) -> None:
        """Send one order."""
        if self._process.stdin is None or self._process.poll() is not None:
            raise NotReady("a crowd of simulated edges ended by itself: see the lines above")
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()

    def report(self) -> list[dict[str, Any]]:
        """Return each edge's connections and failed tries."""
        self._reported.clear()
        self.tell("report")
        if not self._reported.wait(_START_S) or self._report is None:
            raise NotReady("a crowd of simulated edges does not answer: this machine is too busy")
        return self._report

    def end(self) -> None:
        """End it, kindly at first."""
        if self._process.poll() is None:
            self.tell("end")
        try:
            self._process.wait(_START_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            said = json.loads(line)
            if "edges" in said:
                self._report = said["edges"]
                self._reported.set()
            else:
                self.counts = Counter(said)


class StormRun:
    """A broker, its crowds and its record.

    Args:
        edges: How many edges.
        directory: Where the broker keeps its files.
        interval_s: Seconds between two frames of an edge.
        within_s: How long after the broker listens again every edge may take.
        seed: Seed of the pauses.
        secured: Whether the broker is a site's: TLS, and a password and rules of its own for every edge.
        tell: Takes a line about progress.
    """

    def __init__(
        self,
        edges: int,
        *,
        directory: Path,
        interval_s: float,
        within_s: float,
        seed: int,
        secured: bool = False,
        tell: Callable[[str], None],
    ) -> None:
        self._edges = edges
        self._interval_s = interval_s
        self._within_s = within_s
        self._seed = seed
        self._tell = tell
        self._secured = secured
        self._directory = directory
        self._database = directory / "mosquitto.db"
        self._broker = MosquittoProcess(directory)
        self._secrets: Path | None = None
        self._crowds: list[CrowdProcess] = []
        self._record: StormRecord | None = None
        self._settings: BrokerSettings | None = None

    def start(self) -> None:
        """Start everything, and wait until every edge is connected.

        Raises:
            NotReady: If this machine may not open enough files, or the edges do not come.
        """
        allowed = raise_file_limit()
        if allowed < _FILES_EACH * min(self._edges, PER_CROWD) or allowed < self._edges + 200:
            raise NotReady(
                f"{self._edges} edges need more open files than the {allowed} that a process may have here: raise "
                "'ulimit -Hn', or ask for fewer --edges"
            )
        reach: dict[str, Any] = {}
        if self._secured:
            reach = self._secure()
        self._broker.start()
        reach["port"] = self._broker.port
        mine = {}
        if self._secrets is not None:
            mine = {
                "username": _RECORD.username,
                "password_file": self._secrets / f"{_RECORD.username}.password",
            }
        self._settings = BrokerSettings.model_validate({**reach, **mine})
        self._record = StormRecord(self._settings)
        self._record.start()
        for first in range(0, self._edges, PER_CROWD):
            self._crowds.append(
                CrowdProcess(
                    {
                        "first": first,
                        "count": min(PER_CROWD, self._edges - first),
                        "interval_s": self._interval_s,
                        "seed": self._seed,
                        "broker": reach,
                        "secrets": str(self._secrets) if self._secrets is not None else None,
                    }
                )
            )
        if not self._wait(lambda: self.count("connected") == self._edges, _START_S, "connecting"):
            raise NotReady(
                f"{self.count('connected')} of {self._edges} edges connected within {_START_S:g} s: this machine is "
                "too busy"
            )
        self._wait(lambda: self.recorded > 0, self._interval_s + _START_S, "first frames")

    def _secure(self) -> dict[str, Any]:
        """Make certificates, users and rules; return how clients reach the broker."""
        site = self._directory / "site"
        made = make_certificates(site, ["127.0.0.1"])
        members = [Member("edge", device_name(number), SITE) for number in range(self._edges)]
        tls = ServerTls(made.authority, made.certificate, made.key)
        files = write_site(site, [*members, _RECORD], tls=tls)
        self._secrets = site / "secrets"
        self._broker = MosquittoProcess(
            self._directory, password_file=files.passwords, acl_file=files.acl, tls=tls
        )
        return {"tls": {"ca_file": str(made.authority)}}

    def count(self, what: str) -> int:
        """Return a count over all crowds, half a second old at most."""
        return sum(crowd.counts[what] for crowd in self._crowds)

    @property
    def recorded(self) -> int:
        """Different frames that the record has taken."""
        return self._record.recorded if self._record is not None else 0

    def outage(self, how: Outage, down_s: float) -> Round:
        """Take the broker away, bring it back, and wait until everyone is there again."""
        assert self._record is not None  # noqa: S101 - started
        before = self.count("connections")
        overflows = listen_overflows()
        if how == "stop":
            self._broker.stop()
        else:
            self._broker.kill()
        gone_at = time.monotonic()
        if how == "forget":
            self._database.unlink(missing_ok=True)
        self._record.forget_births()
        self._wait(lambda: False, down_s, f"broker away ({how})")
        self._broker.start()
        up_at = time.monotonic()

        def settled() -> bool:
            return self.count("connections") - before >= self._edges == self.count("connected")

        def all_born() -> bool:
            return self._record is not None and len(self._record.births()) >= self._edges

        self._wait(lambda: settled() and all_born(), self._within_s, "coming back")
        self._wait(lambda: False, _QUIET_S, "watching")
        return self._measured(how, gone_at=gone_at, up_at=up_at, overflows=listen_overflows() - overflows)

    def finish(self) -> tuple[int, int, int]:
        """Let every frame arrive; return how many were captured, how many recorded, and how many states are not online."""
        for crowd in self._crowds:
            crowd.tell("still")
        self._wait(lambda: False, 1.0, "no more frames")
        self._wait(lambda: self.count("waiting") == 0, _DRAIN_S, "waiting for receipts")
        assert self._settings is not None  # noqa: S101 - started
        presences = retained_presences(self._settings, enough=self._edges, within_s=20.0)
        online = sum(presence == "online" for presence in presences.values())
        return self.count("captured"), self.recorded, self._edges - online

    def stop(self) -> None:
        """End everything."""
        for crowd in self._crowds:
            crowd.end()
        if self._record is not None:
            self._record.stop()
        self._broker.stop()

    def _wait(self, condition: Callable[[], bool], within_s: float, what: str) -> bool:
        began = time.monotonic()

        def look() -> bool:
            self._tell(
                f"{what}: {time.monotonic() - began:.0f} s, {self.count('connected')} of {self._edges} connected, "
                f"{self.count('captured')} frames captured, {self.recorded} recorded"
            )
            return condition()

        return wait_until(look, within_s=within_s, turn_s=0.1)

    def _measured(self, how: Outage, *, gone_at: float, up_at: float, overflows: int) -> Round:
        assert self._record is not None  # noqa: S101 - started
        edges = [edge for crowd in self._crowds for edge in crowd.report()]
        # The broker listens a moment before we know that it does: an edge that was faster came at once.
        back = sorted(
            max(0.0, min(times) - up_at)
            for edge in edges
            if (times := [at for at in edge["connected_at"] if at > gone_at])
        )
        tries = Counter(ending for edge in edges for ending, began in edge["failures"] if began > up_at)
        births = self._record.births()
        born_s = max(births.values()) - up_at if len(births) >= self._edges else None
        return Round(
            outage=how,
            down_s=round(up_at - gone_at, 2),
            connected=len(back),
            p50_s=_share(back, 0.5),
            p99_s=_share(back, 0.99),
            last_s=_share(back, 1.0),
            born_s=round(max(0.0, born_s), 2) if born_s is not None else None,
            refused=tries["not-listening"] + tries["refused"],
            unanswered=tries["unanswered"] + tries["unreachable"],
            overflows=overflows,
        )


def holds(one: Round, *, edges: int, within_s: float) -> bool:
    """Whether everyone came back in time, and nobody was turned away."""
    return (
        one.connected == edges
        and one.last_s is not None
        and one.last_s <= within_s
        and one.born_s is not None
        and one.refused == 0
    )


def as_json(one: Round) -> dict[str, Any]:
    """Return a round for the last line of ``--json``."""
    return asdict(one)


def listen_overflows() -> int:
    """Return how often this machine's kernel has found an accept queue full; 0 where it does not say (not Linux)."""
    try:
        names, values = (
            line.split()
            for line in Path("/proc/net/netstat").read_text().splitlines()
            if line.startswith("TcpExt:")
        )
    except (OSError, ValueError):
        return 0
    return int(dict(zip(names, values, strict=False)).get("ListenOverflows", 0))


def _share(times: list[float], share: float) -> float | None:
    return round(times[max(0, math.ceil(share * len(times)) - 1)], 2) if times else None
