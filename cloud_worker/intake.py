"""Between the network thread and the decoders: a queue that never makes the network thread wait.

How much can pile up is the broker's affair: it sends no more than the receive maximum before an acknowledgement
(MQTT 5, section 3.3.4), and a frame is acknowledged when its work is done. For brokers without that bound the queue
has one of its own; a frame beyond it is left unacknowledged, and the edge, which hears nothing, sends it again.
"""

import heapq
import itertools
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PriorityFifo(Generic[T]):
    """Urgent items first, and first come, first served among equals. Any thread may call any method.

    Args:
        capacity: Items held at most.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._heap: list[tuple[bool, int, T]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._heap)

    def offer(self, item: T, *, urgent: bool, order: int | None = None) -> bool:
        """Put an item in without waiting; returns whether it was taken.

        Args:
            item: The item.
            urgent: Whether it goes before those that are not.
            order: Its place among its equals, lowest first; the order of coming, unless given.
        """
        with self._changed:
            if self._closed or len(self._heap) >= self._capacity:
                return False
            heapq.heappush(self._heap, (not urgent, next(self._order) if order is None else order, item))
            self._changed.notify()
            return True

    def take(
        self, timeout_s: float | None = None, *, reserve: Callable[[bool], bool] | None = None
    ) -> T | None:
        """Return the next item; none when the time is over, or the queue is closed and empty.

        Args:
            timeout_s: How long to wait; for ever if none.
            reserve: Asked, with whether the next item is urgent, if the taker has room for it; an item is handed out
                once it says yes. Whoever makes room calls `poke`.
        """

        def is_there() -> bool:
            return bool(self._heap) and (reserve is None or reserve(not self._heap[0][0]))

        with self._changed:
            there = self._changed.wait_for(lambda: is_there() or (self._closed and not self._heap), timeout_s)
            return heapq.heappop(self._heap)[2] if there and self._heap else None

    def poke(self) -> None:
        """Have waiting takers ask again whether there is room."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Take no more; what is in is still handed out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed
