"""How fast frames enter the record, and how far behind the microscopes it is."""

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable

from clinician_dashboard.record.changes import Applied

WINDOW_S = 10.0
USUAL_S = 5.0
"""From capture to record within this is no backlog."""


class Pace:
    """Counts over the last ten seconds.

    Args:
        clock: Returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._batches: deque[tuple[float, int, float]] = deque()
        self._began = clock()

    def note(self, applied: Applied) -> None:
        """Note a committed batch."""
        if not applied.latencies_ms:
            return
        age_s = statistics.median(applied.latencies_ms) / 1000
        with self._lock:
            self._batches.append((self._clock(), applied.newly_recorded, age_s))
            self._forget()

    @property
    def frames_per_s(self) -> float:
        """Frames recorded a second."""
        with self._lock:
            self._forget()
            span = min(WINDOW_S, max(1.0, self._clock() - self._began))
            return sum(count for _, count, _ in self._batches) / span

    @property
    def behind_s(self) -> float:
        """How old the frames are that enter now, in seconds by the microscopes' clocks; 0 if they are as fresh as usual."""
        with self._lock:
            self._forget()
            age_s = self._batches[-1][2] if self._batches else 0.0
        return age_s if age_s > USUAL_S else 0.0

    def _forget(self) -> None:
        horizon = self._clock() - WINDOW_S
        while self._batches and self._batches[0][0] < horizon:
            self._batches.popleft()
