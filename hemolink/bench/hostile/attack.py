"""The attack: round after round of hostile messages beside a stream of good frames, and a look at every daemon in between."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from hemolink.bench.hostile.ledger import DAEMONS, MARK_TOPIC, Ledger, Tap, is_malformed, receivers
from hemolink.bench.hostile.mqtt import BrokerHungUp, Publisher
from hemolink.bench.hostile.pages import Browser
from hemolink.bench.hostile.shot import Shot
from hemolink.bench.hostile.site import Site, faults_in_log, resident_mb
from hemolink.bench.hostile.stream import garbage, volley
from hemolink.errors import Unanswered

ROUND = 250
GOOD_A_ROUND = 4
SETTLE_S = 15.0
HUNT_S = 1.5
MAX_HUNTS = 3
DRAIN_S = 60.0
_MAX_FAULTS = 40


@dataclass
class Findings:
    """What an attack showed.

    Attributes:
        sent: Hostile messages by family.
        to: Hostile messages by family and daemon; nobody and the broker's own refusals included.
        malformed: Those that the contract cannot read, by daemon; the rest is well formed and hostile in what it says.
        faults: What was wrong, in sentences, each once.
        vanished: Reproducers of messages that no counter knows: daemon, family, what, topic, payload.
        crashes: Processes that ended.
        good_sent: Good pictures given to the edge.
    """

    sent: Counter[str] = field(default_factory=Counter)
    to: dict[str, Counter[str]] = field(default_factory=dict)
    malformed: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    vanished: list[dict[str, str]] = field(default_factory=list)
    crashes: int = 0
    good_sent: int = 0

    def blame(self, *faults: str) -> None:
        """Note what is wrong; the same thing only once, and not without end."""
        for fault in faults:
            if fault not in self.faults and len(self.faults) < _MAX_FAULTS:
                self.faults.append(fault)


class Attack:
    """Attacks a site.

    Args:
        site: The site, with its broker started.
        seed: Seed of the messages.
        say: Told of what happens, for a person.
        stopping: Whether the user has had enough.
    """

    def __init__(
        self, site: Site, *, seed: int, say: Callable[[str], None], stopping: Callable[[], bool]
    ) -> None:
        self._site = site
        self._seed = seed
        self._say = say
        self._stopping = stopping
        self._random = Random(seed)
        self._tap = Tap(site.broker.port)
        self._ledger = Ledger(self._tap, site.metrics)
        self._publisher = Publisher(site.broker.port, "fuzz-attacker")
        self._mark = 0
        self._hunts = 0
        self._browser: Browser | None = None
        self.findings = Findings()
        self.spent_s = {"sending": 0.0, "until all was counted": 0.0, "looking": 0.0}

    @property
    def ledger(self) -> Ledger:
        """The two accounts."""
        return self._ledger

    @property
    def browser(self) -> Browser:
        """What looks at the pages."""
        assert self._browser is not None  # noqa: S101 - start() came first
        return self._browser

    def start(self) -> None:
        """Leave junk on every state topic, start the daemons on top of it, and see that they get on."""
        self._publisher.open()
        self._publisher.fire(garbage(self._seed))
        self._site.start_daemons(self._stopping)
        self._browser = Browser(self._site.web_port, self._random, token=self._site.token)
        self._tap.start()
        self._quiet()
        self._ledger.open()
        self.look(everywhere=True)

    def stop(self) -> None:
        """Hang up."""
        self._publisher.close()
        self._tap.stop()

    def round(self, number: int, *, size: int) -> None:
        """Send one round of messages with some good frames, and see that all of it is accounted for."""
        shots = volley(self._seed, number, size=size)
        self.give_pictures(GOOD_A_ROUND)
        began = time.monotonic()
        self.fire(shots)
        fired = time.monotonic()
        gaps = self._ledger.settle(timeout_s=SETTLE_S)
        self.spent_s["sending"] += fired - began
        self.spent_s["until all was counted"] += time.monotonic() - fired
        for role, count in gaps.items():
            self._hunt(role, count, shots)

    def fire(self, shots: list[Shot]) -> None:
        """Publish, those that break the protocol on a connection of their own, and wait until all have passed the broker."""
        together: list[Shot] = []
        for shot in shots:
            self.findings.sent[shot.family] += 1
            if not shot.breaks:
                self._count(shot)
                together.append(shot)
            elif self._publisher.alone(shot):
                self._count(shot)
            else:
                self._tally(shot.family, "broker")
        mark = self._next_mark()
        try:
            self._publisher.fire([*together, mark])
        except BrokerHungUp as error:
            self.findings.blame(
                f"the attacker's own connection: {error}: a generator breaks the protocol unmarked"
            )
            self._publisher.close()
            self._publisher = Publisher(self._site.broker.port, "fuzz-attacker")
            self._publisher.open()
            self._publisher.fire([mark])
        if not self._tap.wait_mark(mark.payload):
            self.findings.blame("the broker did not pass everything on within 20 s")

    def look(self, *, everywhere: bool = False) -> None:
        """See that every process lives, is healthy, logs decently, and that the pages stand: some of them, or all."""
        began = time.monotonic()
        for role, watched in self._site.daemons.items():
            if words := watched.dead():
                self.findings.crashes += 1
                self.findings.blame(f"the {role} ended: {words}")
                continue
            try:
                watched.child.get("/healthz", timeout_s=20)
            except Unanswered as error:
                self.findings.blame(f"the {role} is not healthy: {error}")
            watched.rss_mb.append(resident_mb(watched.pid))
            self.findings.blame(
                *(f"the {role}'s log holds {fault}" for fault in faults_in_log(watched.new_log()))
            )
        self.findings.blame(*self.browser.look(everywhere=everywhere))
        self.spent_s["looking"] += time.monotonic() - began

    def see_again(self) -> None:
        """Look for the record's pages at the port that it has after a restart."""
        self._browser = Browser(
            self._site.web_port, self._random, token=self._site.token, known=self._browser
        )

    def give_pictures(self, count: int) -> None:
        """Put good pictures into the edge's folder; each is one that never was before."""
        import cv2  # noqa: PLC0415 - a heavy import, here alone
        import numpy as np  # noqa: PLC0415

        for _ in range(count):
            number = self.findings.good_sent
            noise = np.random.default_rng([self._seed, number]).integers(0, 256, (12, 16, 3), dtype=np.uint8)
            picture = cv2.resize(noise, (160, 120), interpolation=cv2.INTER_CUBIC)
            hidden = self._site.pictures / f".{number}"
            hidden.write_bytes(bytes(cv2.imencode(".jpeg", picture)[1]))
            hidden.rename(self._site.pictures / f"{number:06d}.jpeg")
            self.findings.good_sent += 1

    def drain(self) -> None:
        """Wait until the record has every good frame, and the edge a receipt for each."""
        deadline = time.monotonic() + DRAIN_S
        while not self._stopping() and time.monotonic() < deadline:
            try:
                waiting = self._site.edge_status()["spooled"]
            except Unanswered:
                break
            if not waiting and self.browser.good_count() >= self.findings.good_sent:
                return
            time.sleep(0.2)
        if not self._stopping():
            self.findings.blame(
                f"good frames were still on their way {DRAIN_S:.0f} s after the last hostile message"
            )

    def _count(self, shot: Shot) -> None:
        topic = shot.topic.decode("utf-8", "replace")
        roles = receivers(topic)
        for role in roles or ("nobody",):
            self._tally(shot.family, role)
        if roles and is_malformed(topic, shot.payload):
            self.findings.malformed.update(roles)

    def _tally(self, family: str, whom: str) -> None:
        self.findings.to.setdefault(family, Counter())[whom] += 1

    def _next_mark(self) -> Shot:
        self._mark += 1
        return Shot("", "mark", MARK_TOPIC.encode(), str(self._mark).encode())

    def _quiet(self) -> None:
        """Wait until what the daemons say at their start has passed."""
        before: list[str] = []
        for _ in range(50):
            now = [self._site.metrics(role) for role in DAEMONS]
            if [_without_process(text) for text in now] == before and before:
                return
            before = [_without_process(text) for text in now]
            time.sleep(0.2)

    def _hunt(self, role: str, count: int, shots: list[Shot]) -> None:
        """Find by single shots which message it was that vanished."""
        self.findings.blame(f"{role}: messages vanished uncounted; see the reproducers")
        if self._hunts >= MAX_HUNTS:
            return
        self._hunts += 1
        self._say(f"{count} messages to the {role} vanished; sending that round's again one by one")
        known = {(one["daemon"], one["what"]) for one in self.findings.vanished}
        for shot in shots:
            key = (role, f"{shot.family}, {shot.name}")
            if shot.breaks or role not in receivers(shot.topic.decode("utf-8", "replace")) or key in known:
                continue
            self.fire([shot])
            if role in self._ledger.settle(timeout_s=HUNT_S):
                known.add(key)
                self.findings.vanished.append(
                    {
                        "daemon": role,
                        "what": key[1],
                        "topic": repr(shot.topic)[:200],
                        "payload": repr(shot.payload)[:400],
                        "flags": f"qos {shot.qos}, retain {shot.retain}, properties {shot.properties[:60].hex()}",
                    }
                )
            if len(self.findings.vanished) >= 20 or self._stopping():  # noqa: PLR2004 - enough to begin with
                return


def _without_process(metrics: str) -> str:
    return "\n".join(line for line in metrics.splitlines() if "_messages_" in line or "_total{" in line)
