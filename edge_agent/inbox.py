"""An inbox: what other threads leave for one thread, bounded by bytes where strangers may write into it."""

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """Any thread puts, one thread takes everything at once.

    Args:
        max_bytes: Bound of what `offer` lets wait; a flood beyond it is refused and not kept.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._changed = threading.Condition(threading.Lock())
        self._items: deque[T] = deque()
        self._bytes = 0
        self._rung = False

    def put(self, item: T) -> None:
        """Leave something of our own; it is always taken."""
        with self._changed:
            self._items.append(item)
            self._changed.notify()

    def offer(self, item: T, *, size: int) -> bool:
        """Leave something that came from outside; returns whether there was room.

        Args:
            item: What came.
            size: Its size in bytes.
        """
        with self._changed:
            if self._bytes + size > self._max_bytes:
                return False
            self._bytes += size
            self._items.append(item)
            self._changed.notify()
            return True

    def ring(self) -> None:
        """Wake the taker without leaving anything."""
        with self._changed:
            self._rung = True
            self._changed.notify()

    def take(self, timeout_s: float | None) -> list[T]:
        """Return everything that waits; wait for something, at most ``timeout_s`` (none: as long as it takes)."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._rung, timeout_s)
            taken = list(self._items)
            self._items.clear()
            self._bytes = 0
            self._rung = False
            return taken
