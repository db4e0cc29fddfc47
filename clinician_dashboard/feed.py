"""The live feed: what changed, numbered, kept for a short while, so that a page that lost its line can catch up."""

import secrets
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

KEPT_EVENTS = 1000


@dataclass(frozen=True)
class FeedEvent:
    """One change.

    Attributes:
        number: Rises by one with each event of this process.
        name: ``case``, ``fleet``, ``rejections`` or ``refresh`` (read everything again).
        data: Ids of what changed, never the content: a page asks for that itself.
    """

    number: int
    name: str
    data: dict[str, Any] = field(default_factory=dict)


class Feed:
    """Hands events from the writer's thread to any number of listeners.

    Args:
        kept: How many events are kept for those that come back.
    """

    def __init__(self, kept: int = KEPT_EVENTS) -> None:
        self._lock = threading.Lock()
        self._events: deque[FeedEvent] = deque(maxlen=kept)
        self._number = 0
        self._wakers: set[Callable[[], None]] = set()
        # Numbers start again with the process, so an id names the process too.
        self._epoch = secrets.token_hex(4)
        self.closed = False

    def publish(self, name: str, **data: Any) -> None:
        """Add an event and wake every listener. Never blocks."""
        with self._lock:
            self._number += 1
            self._events.append(FeedEvent(self._number, name, data))
        self._wake()

    def close(self) -> None:
        """Tell every listener that no more will come."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            wakers = list(self._wakers)
        for wake in wakers:
            wake()

    def listen(self, wake: Callable[[], None]) -> None:
        """Call ``wake``, from any thread, whenever there is something new. It must not block or raise."""
        with self._lock:
            self._wakers.add(wake)

    def forget(self, wake: Callable[[], None]) -> None:
        """Stop calling ``wake``."""
        with self._lock:
            self._wakers.discard(wake)

    @property
    def listeners(self) -> int:
        """How many listen now."""
        with self._lock:
            return len(self._wakers)

    def last_number(self) -> int:
        """Return the number of the newest event."""
        with self._lock:
            return self._number

    def event_id(self, number: int) -> str:
        """Return the id of an event for a browser's Last-Event-ID."""
        return f"{self._epoch}-{number}"

    def number_of(self, event_id: str) -> int | None:
        """Return the number behind an id of this process, or none when it cannot be caught up with."""
        epoch, _, text = event_id.partition("-")
        if epoch != self._epoch or not text.isdecimal() or len(text) > 18:  # noqa: PLR2004 - fits 64 bits
            return None
        number = int(text)
        with self._lock:
            oldest = self._events[0].number if self._events else self._number + 1
            return number if oldest - 1 <= number <= self._number else None

    def since(self, number: int) -> list[FeedEvent]:
        """Return the events after ``number``; one ``refresh`` alone when some of them are no longer kept."""
        with self._lock:
            if self._events and self._events[0].number > number + 1:
                return [FeedEvent(self._number, "refresh")]
            return [event for event in self._events if event.number > number]
