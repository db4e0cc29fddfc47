"""What has come from the broker and waits for the writer: bounded, and fair.

After an outage thousands of routine frames come at once. Stat frames, diagnoses, states and dead letters go before them,
without starving them; routine frames are taken from each device in turn, so that one device's backlog does not keep the
others waiting.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Protocol

MAX_QUEUED = 1024
MAX_QUEUED_BYTES = 256 * 1024 * 1024
ROUTINE_SHARE = 0.25
"""Of a batch, kept for routine frames however much goes before them."""


class Incoming(Protocol):
    """A delivered message, as the session hands it over."""

    @property
    def topic(self) -> str:
        """Topic name."""
        ...

    @property
    def payload(self) -> bytes:
        """Payload as it came."""
        ...

    @property
    def retain(self) -> bool:
        """Whether the broker had kept it for late subscribers."""
        ...

    def acknowledge(self) -> bool:
        """Acknowledge it; false when the connection that delivered it is gone, which is harmless."""
        ...


class Intake:
    """A queue with a first lane and one lane for each device's routine frames. Within a lane the order is kept."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._first: deque[Incoming] = deque()
        self._lanes: OrderedDict[str, deque[Incoming]] = OrderedDict()
        self._waiting = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._waiting

    @property
    def size_bytes(self) -> int:
        """Bytes that are held: what waits, and what the writer has in hand."""
        return self._bytes

    def put(self, message: Incoming, *, lane: str = "") -> bool:
        """Take a message; false if there is no room. Never waits.

        Args:
            message: The message.
            lane: The device of a routine frame; empty for what goes first.
        """
        size = len(message.payload)
        with self._changed:
            if self._waiting >= MAX_QUEUED or self._bytes + size > MAX_QUEUED_BYTES:
                return False
            self._bytes += size
            self._waiting += 1
            if lane:
                self._lanes.setdefault(lane, deque()).append(message)
            else:
                self._first.append(message)
            self._changed.notify()
        return True

    def take(self, most: int, most_bytes: int, *, timeout_s: float) -> list[Incoming]:
        """Take out the next batch; empty if nothing comes in time.

        Args:
            most: Most messages of the batch.
            most_bytes: The batch ends when it is at least so large.
            timeout_s: How long to wait for the first one.
        """
        batch: list[Incoming] = []
        size = 0
        with self._changed:
            self._changed.wait_for(lambda: self._waiting, timeout_s)
            first_until = most - (max(1, int(most * ROUTINE_SHARE)) if self._lanes else 0)
            while self._waiting and len(batch) < most and size < most_bytes:
                message = self._next(prefer_first=len(batch) < first_until or not self._lanes)
                batch.append(message)
                size += len(message.payload)
                self._waiting -= 1
        return batch

    def release(self, batch: Iterable[Incoming]) -> None:
        """Say that the writer is done with a batch."""
        with self._changed:
            self._bytes -= sum(len(message.payload) for message in batch)

    def _next(self, *, prefer_first: bool) -> Incoming:
        if self._first and prefer_first:
            return self._first.popleft()
        if not self._lanes:
            return self._first.popleft()
        lane, messages = self._lanes.popitem(last=False)
        message = messages.popleft()
        if messages:
            self._lanes[lane] = messages  # to the end: the next device's turn
        return message
