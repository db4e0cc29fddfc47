"""Works on suspects one at a time, with nothing innocent beside them.

A suspect waits until the innocent are through; under steady load, where that never comes, until its patience is over.
Then the turnstile shuts, what is past it is finished and published, the suspects run alone one by one (those
with the fewest deaths first), and the turnstile opens again. If the process dies, it dies with one frame at work.
"""

import logging
import threading
import time
from collections.abc import Callable, Sized

from cloud_worker.decoding import DecoderPool
from cloud_worker.job import Job, Ledger
from cloud_worker.turnstile import Turnstile

logger = logging.getLogger(__name__)

_PATIENCE_S = 2.0
_CLEAR_S = 10.0
_LOOK_S = 0.05


class Solitary:
    """The lane of the suspects.

    Args:
        decoders: Decode one on this lane's thread.
        turnstile: Keeps the innocent out meanwhile.
        innocent: What waits to be decoded.
        ledger: Tells when a suspect's outcome is published.
        deaths_alone: How often the process died of a job's payload alone.
    """

    def __init__(
        self,
        decoders: DecoderPool,
        *,
        turnstile: Turnstile,
        innocent: Sized,
        ledger: Ledger,
        deaths_alone: Callable[[Job], int],
    ) -> None:
        self._decoders = decoders
        self._turnstile = turnstile
        self._innocent = innocent
        self._ledger = ledger
        self._deaths_alone = deaths_alone
        self._waiting: list[tuple[float, Job]] = []
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="solitary", daemon=True)

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self) -> None:
        """Start the lane."""
        self._thread.start()

    def stop(self, timeout_s: float) -> list[Job]:
        """Begin with no more suspects, and return those that wait."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(timeout_s)
        with self._changed:
            left, self._waiting = [job for _, job in self._waiting], []
        return left

    def put(self, job: Job) -> None:
        """Take over a suspect."""
        with self._changed:
            self._waiting.append((time.monotonic(), job))
            self._changed.notify_all()

    def _run(self) -> None:
        while self._wait_for_quiet():
            if not self._turnstile.shut(_CLEAR_S):
                self._decoders.let_in()
                continue  # the innocent cannot be published now; there is no hurry
            try:
                while (job := self._next()) is not None and self._work(job):
                    pass
            except Exception:
                logger.exception("a suspect frame could not be run alone; its edge sends it again")
            finally:
                self._turnstile.reopen()
                self._decoders.let_in()

    def _wait_for_quiet(self) -> bool:
        """Wait for a suspect, and for quiet; returns false when it is time to stop."""
        while not self._stop.is_set():
            with self._changed:
                if not self._changed.wait_for(lambda: self._waiting or self._stop.is_set(), 1.0):
                    continue
                since = self._waiting[0][0] if self._waiting else time.monotonic()
            quiet = not len(self._innocent) and not self._turnstile.inside
            if not self._stop.is_set() and (quiet or time.monotonic() - since > _PATIENCE_S):
                return True
            self._stop.wait(_LOOK_S)
        return False

    def _next(self) -> Job | None:
        with self._changed:
            if self._stop.is_set() or not self._waiting:
                return None
            chosen = min(self._waiting, key=lambda pair: self._deaths_alone(pair[1]))
            self._waiting.remove(chosen)
            return chosen[1]

    def _work(self, job: Job) -> bool:
        """Decode a suspect, have the model look at it alone, and wait for its outcome to be out of the house."""
        logger.info("a suspect frame is worked on alone", extra={"frame_id": job.frame_id})
        job.alone = True
        self._decoders.decode(job)
        return self._ledger.wait_settled(job, _CLEAR_S)
