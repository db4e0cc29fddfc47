"""An answer that is used again for a short while."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
CHEAP_S = 0.05
LONGEST_S = 5.0


class Memo(Generic[T]):
    """Keeps the last answer; safe to use from several threads, of which one computes and the others wait.

    Args:
        kept_s: How long an answer is used, in seconds.
        times_its_cost: An answer that took more than 0.05 s is used for so many times as long, but for no more than 5 s: on a
            machine that is busy with other things every answer is slow, and figures that stand still look like a fault.
        clock: Returns seconds that never go back.
    """

    def __init__(
        self, kept_s: float, *, times_its_cost: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kept_s = kept_s
        self._times = times_its_cost
        self._clock = clock
        self._lock = threading.Lock()
        self._answer: tuple[T, float] | None = None

    def get(self, compute: Callable[[], T]) -> T:
        """Return the kept answer, or compute it."""
        with self._lock:
            began = self._clock()
            if self._answer is not None and began < self._answer[1]:
                return self._answer[0]
            value = compute()
            cost = self._clock() - began
            dear_s = min(LONGEST_S, cost * self._times) if cost > CHEAP_S else 0.0
            kept_s = max(self._kept_s, dear_s)
            self._answer = (value, self._clock() + kept_s)
            return value

    def forget(self) -> None:
        """Compute it anew the next time."""
        with self._lock:
            self._answer = None
