"""The frames that are published and not receipted yet."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass
class Flight:
    """One frame under way.

    Attributes:
        frame_id: The frame.
        size: Bytes of its payload.
        attempts: How often it was published, this time included.
        sent_at: When, in the uplink's clock.
        due_at: When it is given up for this time.
        acknowledged: Whether the broker has taken it.
        probe: Whether it went out to see if somebody is there.
        leased: Whether a worker has diagnosed it, and the record's turn has come.
    """

    frame_id: str
    size: int
    attempts: int
    sent_at: float
    due_at: float
    acknowledged: bool = False
    probe: bool = False
    leased: bool = False


class Flights:
    """Every frame under way. One thread uses it.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._flights: dict[str, Flight] = {}
        self._unacknowledged: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __iter__(self) -> Iterator[Flight]:
        return iter(list(self._flights.values()))

    def __contains__(self, frame_id: str) -> bool:
        return frame_id in self._flights

    @property
    def unacknowledged(self) -> int:
        """How many publishes wait for the broker."""
        return len(self._unacknowledged)

    @property
    def unacknowledged_bytes(self) -> int:
        """How much memory they hold."""
        return sum(self._unacknowledged.values())

    @property
    def next_due(self) -> float | None:
        """When the next flight is given up, or None."""
        return min((flight.due_at for flight in self._flights.values()), default=None)

    def get(self, frame_id: str) -> Flight | None:
        """Return a frame's flight."""
        return self._flights.get(frame_id)

    def start(self, flight: Flight) -> None:
        """Note that a frame is published."""
        self._flights[flight.frame_id] = flight
        self._unacknowledged[flight.frame_id] = flight.size

    def acknowledge(self, frame_id: str) -> Flight | None:
        """Note that the broker has answered a publish, well or ill; return the flight if it is still under way."""
        self._unacknowledged.pop(frame_id, None)
        flight = self._flights.get(frame_id)
        if flight is not None:
            flight.acknowledged = True
        return flight

    def end(self, frame_id: str) -> Flight | None:
        """Take out a frame's flight."""
        return self._flights.pop(frame_id, None)

    def lapse(self) -> list[Flight]:
        """Take out and return the flights that no receipt has ended in time."""
        now = self._clock()
        over = [flight for flight in self._flights.values() if flight.due_at <= now]
        for flight in over:
            del self._flights[flight.frame_id]
        return over
