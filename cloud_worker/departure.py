"""How a worker leaves its pool: it takes no more, and hands back what it cannot finish."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait

from broker_config.delivery import Publication
from broker_config.errors import SessionError
from broker_config.session import Session
from cloud_worker.answers import Answers
from cloud_worker.job import Job
from cloud_worker.publishing import log_receipt

logger = logging.getLogger(__name__)

_UNSUBSCRIBE_S = 2.0
_RETRY_RECEIPTS_S = 2.0
_STOPPED = "the worker stopped before it came to this frame"


class Departure:
    """Leaves frames to other workers, by the receipt ``retry``.

    Args:
        session: The connection.
        frames: The topic filter of the frames.
        answers: Composes the receipts.
        most: How many declined frames are remembered until the pool is left.

    Attributes:
        handed_back: How many frames were left to other workers.
    """

    def __init__(self, session: Session, *, frames: str, answers: Answers, most: int) -> None:
        self._session = session
        self._frames = frames
        self._answers = answers
        self._most = most
        self._lock = threading.Lock()
        self._declined: list[Job] = []
        self._has_left = False
        self.handed_back = 0

    @property
    def has_left(self) -> bool:
        """Whether the broker routes no more frames here."""
        return self._has_left

    def leave_pool(self) -> None:
        """Unsubscribe from the frames, and hand back at once what came in the meantime."""
        if not self._session.unsubscribe(self._frames, timeout_s=_UNSUBSCRIBE_S):
            return  # handed back at the end, or this worker would be sent the same frames again
        with self._lock:
            self._has_left = True
            declined, self._declined = self._declined, []
        for job in declined:
            self.decline(job)

    def decline(self, job: Job) -> None:
        """Leave a frame to another worker; called on the network thread too."""
        with self._lock:
            if not self._has_left:
                if len(self._declined) < self._most:
                    self._declined.append(job)
                return
            self.handed_back += 1
        receipt = self._answers.receipt(job, "retry", reason=_STOPPED)
        if receipt is not None:
            self._session.publish_soon(receipt).add_done_callback(log_receipt)
        job.acknowledge()  # makes room for the next that was routed here

    def empty_window(self, state: Callable[[], Publication]) -> None:
        """Take and decline what the broker held back until the last acknowledgements.

        Args:
            state: Makes the worker's state, published for a round trip.
        """
        deadline = time.monotonic() + _UNSUBSCRIBE_S
        while self._has_left:
            before = self.handed_back
            try:  # a round trip: what the broker sends upon an acknowledgement comes before its answer
                self._session.publish(state(), timeout_s=max(0.1, deadline - time.monotonic()))
            except SessionError:
                return
            if self.handed_back == before or time.monotonic() > deadline:
                return

    def hand_back(self, jobs: Sequence[Job], *, reason: str = "") -> None:
        """Ask the edges for what could not be finished; unacknowledged frames of a gone worker reach nobody.

        Args:
            jobs: What was taken; what was declined is added.
            reason: Why, unless the worker was asked to stop.
        """
        left = [*jobs, *self._declined]
        if not left:
            return
        logger.warning("handing back %d frames that could not be finished", len(left))
        self.handed_back += len(left)
        receipts = [self._answers.receipt(job, "retry", reason=reason or _STOPPED) for job in left]
        wait(
            [self._session.publish_soon(one) for one in receipts if one is not None],
            timeout=_RETRY_RECEIPTS_S,
        )
