"""How long to pause before the next try, so that a fleet comes back without a stampede and a lone device comes back fast.

All edges of a hospital lose their broker at one moment. Each waits a random time between nothing and a bound (full
jitter), and the bound doubles with each try: the longer the outage, the wider the fleet is spread when it ends, while a
microscope whose cable was pulled for a second is back about a second later.
"""

import random

FIRST_PAUSE_S = 1.0
STEADY_S = 3.0
"""A connection that held so long was a good one, and the count of tries starts anew when it ends: on a line that drops
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
    """Counts the tries of one session.

    Args:
        max_s: The bound of a pause that is never exceeded.
    """

    def __init__(self, max_s: float) -> None:
        self._max_s = max_s
        self._attempt = 0

    def after(self, *, held_s: float, taken_over: bool = False) -> float:
        """Return how long to pause now.

        Args:
            held_s: How long the connection that has just ended was up; nothing for a try that failed.
            taken_over: Whether another client of the same name ended it. Such a pair must not push each other out
                ever faster, so that its tries keep counting however long each connection held.
        """
        steady = held_s > STEADY_S and not taken_over
        self._attempt = 1 if steady else self._attempt + 1
        return backoff_s(self._attempt, max_s=self._max_s)
