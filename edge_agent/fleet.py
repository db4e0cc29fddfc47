"""The fleet as an edge sees it: is a worker there that would take a frame?

Where a record subscribes to the frames too, a broker never answers "no matching subscribers", and a frame sent while no
worker is there gets no diagnosis. The workers' retained states tell. They are a hint and no more: a worker that died with
its broker leaves an ``online`` behind, a topic may be forbidden or lost. So nothing heard means nothing known, and a receipt
from a worker counts for more than any state.
"""

from collections.abc import Callable
from typing import Literal

from broker_config.fleet_messages import WorkerState
from broker_config.messages import Presence

Verdict = Literal["unknown", "staffed", "deserted"]

_PROOF_S = 60.0
_MAX_WORKERS = 10_000  # anybody who may write to the fleet's topics could invent names


class Fleet:
    """The workers' states. One thread uses it.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._states: dict[str, tuple[Presence, int]] = {}
        self._proof_until = 0.0

    def hear(self, worker: WorkerState, *, retained: bool) -> bool:
        """Take in a state.

        Args:
            worker: The state.
            retained: Whether the broker had kept it; then it may be old.

        Returns:
            Whether a worker has come that was not there before.
        """
        known = self._states.get(worker.worker)
        if known is None and len(self._states) >= _MAX_WORKERS:
            return False
        # A will of an earlier life must not count. What lives now is believed whatever its birth: it may have lost its count.
        if known is not None and worker.birth < known[1] and (retained or worker.presence != "online"):
            return False
        self._states[worker.worker] = (worker.presence, worker.birth)
        if worker.presence != "online":
            if not self._online:
                self._proof_until = 0.0  # the last one has just left; what it did before proves nothing
            return False
        return not retained and known != ("online", worker.birth)

    def lose(self, name: str) -> None:
        """Forget one worker, whose retained state was deleted."""
        self._states.pop(name, None)

    def prove(self) -> None:
        """Note that a worker has answered a frame: for a while no state says otherwise."""
        self._proof_until = self._clock() + _PROOF_S

    @property
    def verdict(self) -> Verdict:
        """``deserted`` only if workers have told their states, and none of them is online or has just answered."""
        if not self._states:
            return "unknown"
        return "staffed" if self._online or self._clock() < self._proof_until else "deserted"

    @property
    def known(self) -> int:
        """How many workers have told their state."""
        return len(self._states)

    @property
    def _online(self) -> bool:
        return any(presence == "online" for presence, _ in self._states.values())
