"""The pulse: a thread that beats at about equal times, and at once when it is told that something has changed."""

import logging
import random
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

_SPREAD = 0.2
_MIN_GAP_S = 0.05  # alarms that come and go must not flood the broker


class Pulse:
    """Beats.

    Two hundred devices that came back with their broker at one moment must not beat together for ever: the first beat comes
    at a random time, and every pause is longer or shorter by up to a fifth.

    Args:
        beat: Called on each beat; what it raises is logged and forgotten.
        every_s: Mean pause between two beats.
        bell: Set from any thread to have a beat at once.
        uniform: Uniform random number between two bounds.
    """

    def __init__(
        self,
        beat: Callable[[], None],
        *,
        every_s: float,
        bell: threading.Event,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._beat = beat
        self._every_s = every_s
        self._bell = bell
        self._uniform = uniform
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to beat, on a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop beating."""
        self._stopping.set()
        self._bell.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        due = time.monotonic() + self._uniform(0.0, self._every_s)
        while True:
            self._bell.wait(max(0.0, due - time.monotonic()))
            self._bell.clear()
            if self._stopping.is_set():
                return
            try:
                self._beat()
            except Exception:
                logger.exception("the pulse stumbled; it goes on")
            due = time.monotonic() + self._uniform(1 - _SPREAD, 1 + _SPREAD) * self._every_s
            self._stopping.wait(_MIN_GAP_S)
