"""The lease on a diagnosed frame.

A worker's receipt ``diagnosed`` says that the work is done; only the record's ``recorded`` says that it is kept. Between the
two the frame is on lease: for a bounded time nobody is asked to diagnose it again, however many workers come or go. The
record's receipt ends the lease. A lease that runs out makes the frame due again, and says something about the record.
"""

from collections.abc import Callable
from dataclasses import dataclass

_MAX_DOUBLINGS = 16


@dataclass(frozen=True)
class Lease:
    """The time that the record has for one diagnosed frame.

    Attributes:
        frame_id: The frame.
        granted_at: When it began, in the uplink's clock.
        until: When it runs out.
    """

    frame_id: str
    granted_at: float
    until: float


class Leases:
    """The leases that hold at this moment. One thread uses it.

    Args:
        term_s: Length of a frame's first lease. Each further lease of the same frame is twice as long: a record that is slow
            must not have its work doubled.
        max_s: No lease is longer, the first excepted.
        clock: Monotonic seconds.
    """

    def __init__(self, *, term_s: float, max_s: float, clock: Callable[[], float]) -> None:
        self._term_s = term_s
        self._max_s = max(term_s, max_s)
        self._clock = clock
        self._held: dict[str, Lease] = {}
        self._terms: dict[str, int] = {}

    def grant(self, frame_id: str) -> Lease:
        """Begin a lease. One that holds already stays as it is: a second ``diagnosed`` does not prolong it."""
        held = self._held.get(frame_id)
        if held is not None:
            return held
        now = self._clock()
        terms = self._terms.get(frame_id, 0)
        length_s = min(self._max_s, self._term_s * 2.0 ** min(terms, _MAX_DOUBLINGS))
        lease = self._held[frame_id] = Lease(frame_id, now, now + length_s)
        self._terms[frame_id] = terms + 1
        return lease

    def end(self, frame_id: str) -> None:
        """Forget a frame whose fate is known."""
        self._held.pop(frame_id, None)
        self._terms.pop(frame_id, None)

    def run_out(self) -> list[Lease]:
        """Take out and return the leases that are over."""
        now = self._clock()
        over = [lease for lease in self._held.values() if lease.until <= now]
        for lease in over:
            del self._held[lease.frame_id]
        return over

    @property
    def next_end(self) -> float | None:
        """When the next lease runs out, or None."""
        return min((lease.until for lease in self._held.values()), default=None)
