"""How long to pause before the next try, so that a fleet comes back without a stampede and a lone device comes back fast.

All edges of a hospital lose their broker at one moment. Each waits a random time between nothing and a bound (full
jitter), so that they do not come back at one moment, too.
"""

import random

FIRST_PAUSE_S = 1.0
STEADY_S = 3.0
"""A connection that held so long was a good one, and the time away starts anew when it ends: on a line that drops
every few seconds a device is back within one. Two clients of one name push each other out sooner than that."""

_MAX_DOUBLINGS = 16


def backoff_s(attempt: int, *, first_s: float = FIRST_PAUSE_S, max_s: float = 30.0) -> float:
    """Return how long to pause before the next try: exponential, with full jitter.

    Args:
        attempt: How many tries have failed in a row, from 1.
        first_s: The bound of the first pause in seconds.
        max_s: The bound that is never exceeded.
    """
    bound = min(max_s, first_s * 2.0 ** min(max(attempt - 1, 0), _MAX_DOUBLINGS))
    return random.uniform(0.0, bound)


class ReconnectPauses:
    """Says how long a session pauses before it connects again: up to as long as it has been away.

    The spread of a fleet then follows the outage. After a restart of five seconds a thousand edges come back over about
    as long, 200 a second; after a minute or more over the longest pause. A microscope whose cable was out for a second is
    back about a second later, whatever it tried meanwhile. A bound that doubles with each try has neither: a device
    that happened to try four times in its first second would then wait eight.

    Args:
        max_s: The bound of a pause that is never exceeded.
    """

    def __init__(self, max_s: float) -> None:
        self._max_s = max_s
        self._away_since: float | None = None

    def after(self, now: float, *, held_s: float, taken_over: bool = False) -> float:
        """Return how long to pause now.

        Args:
            now: `time.monotonic` when the connection, or the try, ended.
            held_s: How long the connection that has just ended was up; nothing for a try that failed.
            taken_over: Whether another client of the same name ended it. Such a pair must not push each other out
                ever faster, so that it counts as away however long each connection held.
        """
        if self._away_since is None or (held_s > STEADY_S and not taken_over):
            self._away_since = now
        bound = min(self._max_s, max(FIRST_PAUSE_S, now - self._away_since))
        return random.uniform(0.0, bound)
