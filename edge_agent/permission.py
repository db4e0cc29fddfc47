"""Whether fields may be taken: on, off, or so many more."""

import threading


class Permission:
    """What orders have said of it. Any thread may call it.

    Args:
        paused: Whether to begin with off.
    """

    def __init__(self, *, paused: bool) -> None:
        self._lock = threading.Lock()
        self._paused = paused
        self._extra = 0

    def pause(self) -> None:
        """Take no more until told otherwise."""
        with self._lock:
            self._paused, self._extra = True, 0

    def resume(self) -> None:
        """Take fields again."""
        with self._lock:
            self._paused, self._extra = False, 0

    def grant(self, frames: int) -> None:
        """Take so many fields, then none."""
        with self._lock:
            self._paused = True
            self._extra += frames

    def use(self) -> None:
        """Note that a field was taken."""
        with self._lock:
            self._extra = max(self._extra - 1, 0)

    @property
    def given(self) -> bool:
        """Whether a field may be taken now."""
        with self._lock:
            return not self._paused or self._extra > 0
