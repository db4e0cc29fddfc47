"""A run: build the plant, give pictures, break things by the schedule, let it settle, and judge."""

import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hemolink.bench.faults import kept
from hemolink.bench.faults.echo import Echo
from hemolink.bench.faults.evidence import Reader
from hemolink.bench.faults.incident import Incident
from hemolink.bench.faults.judge import Verdict, judge
from hemolink.bench.faults.kinds import KINDS, Kind
from hemolink.bench.faults.load import Load
from hemolink.bench.faults.pictures import Album
from hemolink.bench.faults.plant import EDGES, RECORD, Plant, PlantOptions
from hemolink.bench.faults.scene import Scene
from hemolink.bench.faults.schedule import make_schedule
from hemolink.console import Console

_TICK_S = 0.03
_COUNT_EVERY_S = 1.0
_SETTLE_EVERY_S = 1.5
_AROUND_S = 5.0


@dataclass(frozen=True)
class RunOptions:
    """What was asked for.

    Attributes:
        seconds: Length of the load.
        seed: Of pictures, schedule and chance.
        per_s: Pictures a second.
        every_s: Mean time between two faults.
        settle_s: Longest time for the plant to settle after the load.
        real_workers: How many workers serve the packaged model.
        resend: Whether edges send again what is not receipted.
        kinds: Kinds of faults; all that this machine permits if none.
        no_mounts: Why no disks can be mounted, if so.
    """

    seconds: float
    seed: int = 1
    per_s: float = 8.0
    every_s: float = 3.6
    settle_s: float = 180.0
    real_workers: int = 1
    resend: bool = True
    kinds: tuple[str, ...] = ()
    no_mounts: str = ""


@dataclass
class Outcome:
    """What came out of a run.

    Attributes:
        verdict: Of the judge.
        incidents: Every fault.
        settled_s: How long after the load nothing was on its way any more; None if that never came.
        impossible: Kinds of faults that this machine does not permit, with the reason.
        not_done: Faults that could not be done, in sentences.
        unwell: What else went wrong, in sentences.
        restarts: How often each member was started again.
        interrupted: Whether it was ended from outside.
    """

    verdict: Verdict
    incidents: list[Incident] = field(default_factory=list)
    settled_s: float | None = None
    impossible: dict[str, str] = field(default_factory=dict)
    not_done: list[str] = field(default_factory=list)
    unwell: list[str] = field(default_factory=list)
    restarts: dict[str, int] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, doubled or left unwell."""
        return self.verdict.holds and not self.unwell and not self.interrupted


class Run:
    """One run of the harness.

    Args:
        options: What was asked for.
        directory: An empty folder.
        console: Where progress is told.
        stopping: Set from outside to end early.
    """

    def __init__(
        self, options: RunOptions, *, directory: Path, console: Console, stopping: threading.Event
    ) -> None:
        self._options = options
        self._directory = directory
        self._console = console
        self._stopping = stopping
        self._began = 0.0
        self._verdict = Verdict(0)
        self._counted_at = 0.0
        self._incidents: list[Incident] = []
        self.plant = Plant(
            directory,
            PlantOptions(
                seed=options.seed,
                real_workers=options.real_workers,
                resend=options.resend,
                no_mounts=options.no_mounts,
            ),
        )

    def run(self, *, keep: Path | None = None) -> Outcome:
        """Do all of it; nothing is left running, whatever happens.

        Args:
            keep: Where to leave logs, databases, images and schedule.

        Raises:
            FrontDoorError: If the plant does not come up.
            ContractError: Likewise.
        """
        options = self._options
        album = Album(seed=options.seed)
        self._console.live("  … drawing smears")
        album.draw()
        echo = Echo(seed=options.seed)
        try:
            began = time.monotonic()
            self.plant.start(told=self._console.live, stopping=self._stopping.is_set)
            self._console.say(f"  ✓ the plant is ready after {time.monotonic() - began:.1f} s")
            load = Load(album, {edge: self.plant.folder(edge) for edge in EDGES}, per_s=options.per_s)
            reader = Reader(self._directory, edges=EDGES, record=RECORD)
            self._began = time.monotonic()
            scene = Scene(self.plant, load, reader, echo, self._elapsed)
            outcome = Outcome(self._verdict)
            kinds = self._possible(outcome)
            self._plan(kinds)
            self._break(scene)
            self._put_all_right(scene)
            outcome.settled_s = self._settle(scene)
            outcome.incidents = self._incidents
            outcome.not_done = [f"{one.title}: {one.undoable}" for one in self._incidents if one.undoable]
            outcome.unwell += self._unwell(scene)
            outcome.interrupted = self._stopping.is_set()
            outcome.restarts = {
                name: member.starts - 1 for name, member in self.plant.members.items() if member.starts > 1
            }
            self._console.live("  … stopping the plant, then reading what it leaves behind")
            outcome.unwell += [
                f"{name} did not end in time when told to" for name in self.plant.stop_daemons()
            ]
            kept.write_truth(self._directory, load.given, scene.known)
            outcome.verdict = judge(load.given, reader.read(load.given, known=scene.known, images=True))
            self._attribute(outcome.verdict, load)
            return outcome
        finally:
            echo.stop()
            self.plant.stop(keep=keep)

    # Before

    def _possible(self, outcome: Outcome) -> list[Kind]:
        wanted = self._options.kinds or tuple(name for name, kind in KINDS.items() if not kind.on_request)
        possible = []
        for name in wanted:
            kind = KINDS[name]
            reason = self.plant.impossible.get(kind.needs, "") if kind.needs else ""
            if reason:
                outcome.impossible[name] = reason
            else:
                possible.append(kind)
            outcome.impossible |= {
                what: why for what, why in self.plant.impossible.items() if what.startswith(f"{name} of ")
            }
        return possible

    def _plan(self, kinds: list[Kind]) -> None:
        clocks = self.plant.clocks
        events = make_schedule(
            (
                card
                for kind in kinds
                for card in kind.cards()
                if kind.needs != "clock" or card.target in clocks
            ),
            seconds=self._options.seconds,
            every_s=self._options.every_s,
            seed=self._options.seed,
        )
        self._incidents = [Incident(event, KINDS[event.kind]) for event in events]
        kept.write(self._directory / kept.SCHEDULE, [asdict(event) for event in events])
        self._console.say(f"  ✓ {len(events)} faults are scheduled in {self._options.seconds:.0f} s")

    # While it breaks

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _break(self, scene: Scene) -> None:
        while not self._stopping.wait(_TICK_S) and (elapsed := self._elapsed()) < self._options.seconds:
            scene.plant.tend()
            scene.load.tend(elapsed)
            for incident in self._incidents:
                event = incident.event
                if not incident.done and not incident.over and event.at_s <= elapsed:
                    incident.begin(scene, in_flight=self._in_flight(scene))
                elif incident.standing and elapsed >= (incident.began_s or 0.0) + event.lasts_s:
                    incident.put_right(scene)
            self._look(scene)
            self._count(scene)

    def _look(self, scene: Scene) -> None:
        blocked = frozenset(
            name
            for incident in self._incidents
            if incident.standing
            for name in incident.kind.affected(incident.event.target)
        )
        for incident in self._incidents:
            if incident.undone_s is not None and not incident.over:
                incident.look(scene, blocked=blocked)

    def _put_all_right(self, scene: Scene) -> None:
        for incident in self._incidents:
            if incident.standing:
                incident.put_right(scene)

    def _in_flight(self, scene: Scene) -> int:
        settled = len(self._verdict.recorded) + len(self._verdict.told) + len(self._verdict.refused)
        return max(0, len(scene.load.given) - settled)

    def _count(self, scene: Scene) -> None:
        now = time.monotonic()
        if now - self._counted_at < _COUNT_EVERY_S:
            return
        self._counted_at = now
        given = list(scene.load.given)
        self._verdict = judge(given, scene.reader.read(given, known=scene.known, images=False))
        self._console.live(self._line(scene))

    def _line(self, scene: Scene) -> str:
        verdict = self._verdict
        done = sum(incident.done for incident in self._incidents)
        broken = [f"{one.event.kind} {one.event.target}" for one in self._incidents if one.standing]
        unready = [name for name in scene.plant.unready() if not any(name in one for one in broken)]
        parts = [
            f"{self._elapsed():5.0f} s",
            f"given {len(scene.load.given)}",
            f"recorded {len(verdict.recorded)}",
            f"told {len(verdict.told) + len(verdict.refused)}",
            f"on their way {self._in_flight(scene)}",
            f"faults {done}",
        ]
        if verdict.duplicates:
            parts.append(f"DOUBLED {len(verdict.duplicates)}")
        if broken:
            parts.append(f"broken now: {', '.join(broken)}")
        if unready:
            parts.append(f"recovering: {', '.join(unready)}")
        return " · ".join(parts)

    # Afterwards

    def _settle(self, scene: Scene) -> float | None:
        """Wait until nothing is on its way; returns how long that took."""
        began = time.monotonic()
        looked = 0.0
        while not self._stopping.wait(_TICK_S):
            scene.plant.tend()
            self._look(scene)
            now = time.monotonic()
            if now - looked < _SETTLE_EVERY_S:
                continue
            looked = now
            self._counted_at = 0.0
            self._count(scene)
            if not self._verdict.lost and not scene.plant.unready() and self._quiet():
                return round(now - began, 1)
            if now - began > self._options.settle_s:
                return None
        return None

    def _quiet(self) -> bool:
        return all(incident.over for incident in self._incidents if incident.done)

    def _unwell(self, scene: Scene) -> list[str]:
        unwell = [f"{one.title}: {one.failure}" for one in self._incidents if one.failure]
        unwell += [
            f"{name} is not ready at the end: {fault}" for name, fault in scene.plant.unready().items()
        ]
        return unwell

    def _attribute(self, verdict: Verdict, load: Load) -> None:
        """Count for each fault the lost pictures that were given shortly before or while it stood."""
        lost = [one for one in load.given if one.number in verdict.lost]
        for incident in self._incidents:
            if incident.began_s is None:
                continue
            end_s = incident.ready_s or incident.undone_s or incident.began_s
            incident.lost = sum(incident.began_s - _AROUND_S <= one.at_s <= end_s for one in lost)
