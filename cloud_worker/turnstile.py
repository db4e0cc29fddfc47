"""How many innocent frames are past the decoders' door, and a way to shut it."""

import threading
import time


class Turnstile:
    """Counts jobs between the start of their decoding and the end of everything about them.

    Those that wait decoded are bounded by ``slots``; an urgent job is let in above that. While it is shut nobody is let
    in. Any thread may call any method.

    Args:
        slots: Jobs that may be decoded or waiting for the model.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._inside = 0
        self._shut = False
        self._changed = threading.Condition()

    def admit(self, urgent: bool) -> bool:  # noqa: FBT001 - the queue's question
        """Let a job in if there is room; whoever was let in is followed by `free` and `leave`."""
        with self._changed:
            if self._shut or (self._slots <= 0 and not urgent):
                return False
            self._slots -= 1
            self._inside += 1
            return True

    def pass_alone(self) -> None:
        """Take a place for the one job that is let by while it is shut; followed by `free` alone."""
        with self._changed:
            self._slots -= 1

    def free(self) -> None:
        """Say that a job waits for the model no more."""
        with self._changed:
            self._slots += 1

    def leave(self) -> None:
        """Say that everything about a job is done."""
        with self._changed:
            self._inside -= 1
            if not self._inside:
                self._changed.notify_all()

    @property
    def inside(self) -> int:
        """Jobs that were let in and have not left."""
        return self._inside

    def shut(self, timeout_s: float) -> bool:
        """Let nobody in, and wait until all have left; when that takes too long, stay open and return false."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._shut = True
            empty = self._changed.wait_for(lambda: not self._inside, max(0.0, deadline - time.monotonic()))
            self._shut = empty
            return empty

    def reopen(self) -> None:
        """Let jobs in again; the decoders have to be told."""
        with self._changed:
            self._shut = False
