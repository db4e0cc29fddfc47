"""Whether the other side still lives: when to ping, and when to give up.

The client library counts a ping that waits behind a long packet as unanswered, and ends the connection: on a line of
20 kB/s a frame of a megabyte would be cut off for ever. Here every byte that moves is a sign of life, in both
directions, and only a peer from which nothing at all comes is given up.
"""

_GIVE_UP = 1.5  # of the keep-alive interval, as the broker does with us (MQTT 5, section 3.1.2.10)


class KeepAlive:
    """Judges one connection. Times are `time.monotonic` in seconds.

    Args:
        interval_s: The Keep Alive of CONNECT.
        now: When the connection began.
    """

    def __init__(self, interval_s: float, now: float) -> None:
        self._interval_s = interval_s
        self._heard_at = now
        self._sent_at = now
        self._pinged_at: float | None = None
        self._blocked = False

    def agree(self, interval_s: float) -> None:
        """Take over the interval that the broker asks for instead (MQTT 5, section 3.2.2.3.14)."""
        self._interval_s = interval_s

    def heard(self, now: float) -> None:
        """Note that bytes came, or that the peer has taken some of those that waited for it."""
        self._heard_at = now
        self._pinged_at = None

    def sent(self, now: float, *, blocked: bool) -> None:
        """Note that something was written.

        Args:
            now: When.
            blocked: Whether a part of it still waits for room.
        """
        if not (blocked and self._blocked):
            self._sent_at = now
        self._blocked = blocked

    def pinged(self, now: float) -> None:
        """Note that a ping was sent."""
        self._pinged_at = now

    def ping_due(self, now: float) -> bool:
        """Whether to ping: either side has been silent for an interval. Never within a packet."""
        return not self._blocked and self._pinged_at is None and now >= self._ping_at()

    def silent(self, now: float) -> bool:
        """Whether to give the peer up."""
        return now >= self._end_at()

    def wait_s(self, now: float) -> float:
        """Return after how many seconds one of these may change, at the latest."""
        at = self._end_at()
        if not self._blocked and self._pinged_at is None:
            at = min(at, self._ping_at())
        return max(0.0, at - now)

    def _ping_at(self) -> float:
        return min(self._heard_at, self._sent_at) + self._interval_s

    def _end_at(self) -> float:
        # A process that was itself stopped for a while finds everything overdue: it pings first, and then judges.
        if self._blocked:
            return max(self._heard_at, self._sent_at) + _GIVE_UP * self._interval_s
        if self._pinged_at is not None:
            return self._pinged_at + (_GIVE_UP - 1.0) * self._interval_s
        return float("inf")
