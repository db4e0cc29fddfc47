"""Whether the threads that nobody waits for still turn: the publisher's and the network's."""

import time
from concurrent.futures import Future
from typing import Protocol

from broker_config.session import PublishResult

_PUBLISHER_S = 30.0
_HEARTBEATS = 3
_SHORTEST_S = 30.0


class Turning(Protocol):
    """A thread that says when it last came round."""

    @property
    def silent_s(self) -> float:
        """For how long it has not come round; 0 while it has nothing to do."""


class Vitals:
    """Notices a publisher or a network thread that is stuck. Any thread may call any method.

    The network thread is known by the heartbeat: while there is a connection, the broker's acknowledgement of the
    last state must come back.

    Args:
        heartbeat_s: Pause between two states.
    """

    def __init__(self, *, heartbeat_s: float) -> None:
        self._patience_s = max(_SHORTEST_S, _HEARTBEATS * heartbeat_s)
        self._beat: Future[PublishResult] | None = None
        self._beat_at = 0.0

    def note_beat(self, future: "Future[PublishResult]") -> None:
        """Note that a state was handed to the network thread, unless an earlier one is still under way."""
        if self._beat is None or self._beat.done():
            self._beat, self._beat_at = future, time.monotonic()

    def complaint(self, publisher: Turning | None) -> str:
        """Return what is stuck, in one sentence; empty if nothing is."""
        if publisher is not None and publisher.silent_s > _PUBLISHER_S:
            return (
                f"the publisher has been stuck for {publisher.silent_s:.0f} s: restart the worker, and report this with "
                "its log"
            )
        beat, waited_s = self._beat, time.monotonic() - self._beat_at
        if beat is not None and not beat.done() and waited_s > self._patience_s:
            return (
                f"neither the network thread nor the broker has confirmed a state for {waited_s:.0f} s: see that the "
                "broker answers others, otherwise restart the worker"
            )
        return ""
