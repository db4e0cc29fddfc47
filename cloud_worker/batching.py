"""Forms batches: a batch leaves when it is full, or when its first frame has waited long enough."""

import time
from collections.abc import Callable

from cloud_worker.intake import PriorityFifo
from cloud_worker.job import Job


class Batcher:
    """Takes decoded jobs and hands them out in batches. One thread calls `next_batch`.

    Args:
        ready: Decoded jobs.
        max_batch_size: Largest batch.
        max_wait_s: How long the first job of a batch may wait for others, counted from when it was ready.
        taken: Called once for each job that was taken out of ``ready``.
    """

    def __init__(
        self,
        ready: PriorityFifo[Job],
        *,
        max_batch_size: int,
        max_wait_s: float,
        taken: Callable[[], None],
    ) -> None:
        self._ready = ready
        self._max_batch_size = max_batch_size
        self._max_wait_s = max_wait_s
        self._taken = taken

    def next_batch(self) -> list[Job]:
        """Wait for work and return 1 to ``max_batch_size`` jobs, or none when ``ready`` is closed and empty."""
        batch: list[Job] = []
        leaves_at = 0.0
        while len(batch) < self._max_batch_size:
            wait = max(0.0, leaves_at - time.monotonic()) if batch else None
            job = self._ready.take(wait)
            if job is None:
                break
            self._taken()
            if not batch:
                leaves_at = job.ready_at + self._max_wait_s
            batch.append(job)
        return batch
