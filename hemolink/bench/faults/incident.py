"""One fault as it happened: begun, put right, mended."""

from dataclasses import dataclass

from hemolink.bench.faults.kinds import Kind
from hemolink.bench.faults.scene import Scene, Undo, nothing
from hemolink.bench.faults.schedule import Event

PATIENCE_S = 90.0


@dataclass
class Incident:
    """A fault of the schedule and what became of it.

    Attributes:
        event: As scheduled.
        kind: Its row of the table.
        in_flight: Frames given and not settled when it began.
        began_s: When it was done, in seconds since the load began; None if it has not been.
        undone_s: When it was put right.
        ready_s: When everyone affected was ready again.
        undoable: Why it could not be done.
        failure: Why it could not be put right, or who never became ready.
        lost: Lost frames that were on their way meanwhile; set at the end.
    """

    event: Event
    kind: Kind
    in_flight: int = 0
    began_s: float | None = None
    undone_s: float | None = None
    ready_s: float | None = None
    undoable: str = ""
    failure: str = ""
    lost: int = 0
    _undo: Undo = nothing
    _patient_since: float = 0.0

    @property
    def title(self) -> str:
        """What it is, for a person."""
        return (
            f"fault {self.event.number} ({self.event.kind} {self.event.target}, at {self.event.at_s:.0f} s)"
        )

    @property
    def done(self) -> bool:
        """Whether it was done at all."""
        return self.began_s is not None

    @property
    def standing(self) -> bool:
        """Whether it is done and not put right yet."""
        return self.began_s is not None and self.undone_s is None

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return bool(self.undoable or self.failure) or self.ready_s is not None

    @property
    def recovery_s(self) -> float | None:
        """From being put right until everyone affected was ready; None if that never came."""
        if self.undone_s is None or self.ready_s is None:
            return None
        return max(0.0, self.ready_s - self.undone_s)

    def begin(self, scene: Scene, *, in_flight: int) -> None:
        """Do it."""
        self.in_flight = in_flight
        try:
            self._undo = self.kind.begin(scene, self.event)
        except Exception as error:  # noqa: BLE001 - a fault that cannot be done is reported and ends no run
            self.undoable = f"it could not be done ({type(error).__name__}: {error})"
            return
        self.began_s = scene.elapsed()

    def put_right(self, scene: Scene) -> None:
        """Undo it; those affected must show anew that they are ready."""
        try:
            self._undo()
        except Exception as error:  # noqa: BLE001 - likewise
            self.failure = f"it could not be put right ({type(error).__name__}: {error})"
        self.undone_s = scene.elapsed()
        for name in self.kind.affected(self.event.target):
            scene.plant.members[name].distrust()

    def look(self, scene: Scene, *, blocked: frozenset[str]) -> None:
        """Note when everyone affected is ready; give up after a while.

        Args:
            scene: The plant.
            blocked: Members that another standing fault keeps from being ready, so that their time does not count.
        """
        affected = self.kind.affected(self.event.target)
        waiting = [name for name in affected if not scene.plant.members[name].ready]
        now_s = scene.elapsed()
        if not waiting:
            self.ready_s = now_s
        elif blocked & set(waiting):
            self._patient_since = now_s
        elif self.undone_s is not None and now_s - max(self.undone_s, self._patient_since) > PATIENCE_S:
            name = waiting[0]
            self.failure = f"{name} did not become ready again: {scene.plant.members[name].fault}"
