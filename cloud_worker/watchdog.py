"""Notices work that hangs. Nothing in a process can end a thread, so the process itself must end."""

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType


class Stopwatch:
    """Tells what one thread is at: a block under ``with`` is one piece of work.

    Args:
        what: The kind of work, for the message.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._pieces = 0
        self._busy = False

    def __enter__(self) -> None:
        self._pieces += 1
        self._busy = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._busy = False

    @property
    def piece(self) -> int:
        """Number of the piece of work at hand; 0 if there is none."""
        return self._pieces if self._busy else 0


class Watchdog:
    """Looks at stopwatches, and tells once when one piece of work takes too long.

    It counts its own turns and not the clock: a process that was stopped for an hour (SIGSTOP, a laptop's lid) has
    worked for none of it.

    Args:
        stopwatches: What to watch.
        deadline_s: How long one piece may take.
        on_hang: Told what hangs and for how long.
    """

    def __init__(
        self, stopwatches: Sequence[Stopwatch], *, deadline_s: float, on_hang: Callable[[str, float], None]
    ) -> None:
        self._watched = dict.fromkeys(stopwatches, (0, 0.0))
        self._deadline_s = deadline_s
        self._pause_s = min(1.0, deadline_s / 4)
        self._on_hang = on_hang
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()

    def _run(self) -> None:
        looked_at = time.monotonic()
        while not self._stop.wait(self._pause_s):
            moment = time.monotonic()
            turn_s, looked_at = min(moment - looked_at, 2 * self._pause_s), moment
            for watch in self._watched:
                if self._look(watch, turn_s):
                    return

    def _look(self, watch: Stopwatch, turn_s: float) -> bool:
        seen, busy_s = self._watched[watch]
        piece = watch.piece
        busy_s = busy_s + turn_s if piece and piece == seen else 0.0
        self._watched[watch] = (piece, busy_s)
        if busy_s > self._deadline_s:
            self._on_hang(watch.what, busy_s)
            return True
        return False
