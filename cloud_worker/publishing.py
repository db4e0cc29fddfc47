"""Publishes what became of each frame, and acknowledges the frame only then.

In this order: the diagnosis (or the dead letter) until the broker acknowledges it, through outages; then the receipt
to the edge, once (a lost one costs one resend); then the acknowledgement of every delivery of the frame, which does
nothing where the connection that delivered it is gone. Frames are acknowledged in the order in which they are done and not in that
in which they came (MQTT 5, section 4.6 asks for the latter): otherwise a stat frame would wait for every routine
frame before it.
"""

import heapq
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from broker_config.delivery import Publication
from broker_config.errors import NotConnected, PayloadTooLarge, PublishRefused, PublishTimeout
from broker_config.session import PublishResult, backoff_s
from cloud_worker.job import Job
from cloud_worker.metrics import Metrics

logger = logging.getLogger(__name__)

_REFUSED_FIRST_S = 2.0
_REFUSED_MAX_S = 60.0
_BUSY_S = 0.25
_WARN_EVERY_S = 60.0


class Outbox(Protocol):
    """What the publisher needs of `broker_config.session.Session`."""

    def publish_soon(self, publication: Publication) -> "Future[PublishResult]":
        """Publish without waiting; errors come in the future."""

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait for a connection; returns whether there is one."""


@dataclass(eq=False)
class Outcome:
    """What became of one job.

    Attributes:
        job: The job.
        publication: The diagnosis or the dead letter.
        receipt: The receipt for the edge; none where the frame's id is not known.
        rejected: The code of a dead letter, empty for a diagnosis.
        tries: How often the broker has refused it.
    """

    job: Job
    publication: Publication
    receipt: Publication | None
    rejected: str = ""
    tries: int = 0


@dataclass(frozen=True)
class _Task:
    job: Job
    compose: Callable[[], Outcome]


@dataclass(frozen=True)
class _Answer:
    outcome: Outcome
    future: "Future[PublishResult]"


class Publisher:
    """One thread that publishes outcomes, many in flight at once.

    Args:
        outbox: The session.
        settled: Told of each outcome when everything about it is done.
        abandoned: Told of each job whose outcome could not be composed; its frame is left to the edge's resend.
        metrics: Where to count.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        settled: Callable[[Outcome], None],
        abandoned: Callable[[Job], None],
        metrics: Metrics,
    ) -> None:
        self._outbox = outbox
        self._settled = settled
        self._abandoned = abandoned
        self._metrics = metrics
        self._events: queue.SimpleQueue[_Task | _Answer | None] = queue.SimpleQueue()
        self._deferred: list[tuple[float, int, Outcome]] = []
        self._order = itertools.count()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._warn_unheard_at = 0.0
        self._busy_since: float | None = None
        self.alarm = ""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, job: Job, compose: Callable[[], Outcome]) -> None:
        """Hand over a finished job without waiting.

        Args:
            job: The job.
            compose: Makes its outcome; called on the publisher's thread, so that whoever submits is not held up.
        """
        self._events.put(_Task(job, compose))

    def stop(self, timeout_s: float) -> None:
        """Publish nothing more. What is not acknowledged by now is left to the edge's resend."""
        self._stop.set()
        self._events.put(None)
        self._thread.join(timeout_s)

    @property
    def silent_s(self) -> float:
        """For how long the thread has not come round; 0 while it waits for something to do."""
        since = self._busy_since
        return time.monotonic() - since if since is not None else 0.0

    def _run(self) -> None:
        while not self._stop.is_set():
            self._busy_since = None
            try:
                event = self._events.get(timeout=self._pause())
            except queue.Empty:
                event = None
            self._busy_since = time.monotonic()
            try:
                if isinstance(event, _Answer):
                    self._heard(event)
                elif event is not None:
                    self._start(event)
                self._send_deferred()
            except Exception:
                # The frame stays unacknowledged, and the edge sends it again.
                logger.exception("an outcome could not be published")

    def _start(self, task: _Task) -> None:
        try:
            outcome = task.compose()
        except Exception:
            # Acknowledged, or it would hold a place of the receive maximum for good; without a receipt, so that the
            # edge keeps the frame and sends it again.
            logger.exception(
                "an answer could not be composed; the edge sends the frame again: report this",
                extra={"frame_id": task.job.frame_id},
            )
            self._metrics.abandoned.inc()
            task.job.acknowledge()
            self._abandoned(task.job)
        else:
            self._send(outcome)

    def _pause(self) -> float | None:
        return max(0.0, self._deferred[0][0] - time.monotonic()) if self._deferred else None

    def _send_deferred(self) -> None:
        while self._deferred and self._deferred[0][0] <= time.monotonic() and not self._stop.is_set():
            self._send(heapq.heappop(self._deferred)[2])

    def _defer(self, outcome: Outcome, pause_s: float) -> None:
        heapq.heappush(self._deferred, (time.monotonic() + pause_s, next(self._order), outcome))

    def _send(self, outcome: Outcome) -> None:
        while not self._outbox.wait_connected(0.25):
            self._busy_since = time.monotonic()  # without a broker it waits here, and is not stuck
            if self._stop.is_set():
                return
        future = self._outbox.publish_soon(outcome.publication)
        future.add_done_callback(lambda done: self._events.put(_Answer(outcome, done)))

    def _heard(self, answer: _Answer) -> None:
        outcome = answer.outcome
        try:
            result = answer.future.result()
        except NotConnected:
            self._send(outcome)
        except PublishTimeout:
            self._defer(outcome, _BUSY_S)
        except (PublishRefused, PayloadTooLarge) as error:
            # A refusal is a mistake in the broker's settings: the frame is held, and tried again when a person has
            # mended it.
            outcome.tries += 1
            self.alarm = str(error)
            self._metrics.refused.inc()
            logger.error("%s", error, extra={"frame_id": outcome.job.frame_id})  # noqa: TRY400 - a sentence suffices
            self._defer(
                outcome,
                _REFUSED_FIRST_S + backoff_s(outcome.tries, first_s=_REFUSED_FIRST_S, max_s=_REFUSED_MAX_S),
            )
        else:
            self.alarm = ""
            self._finish(outcome, result)

    def _finish(self, outcome: Outcome, result: PublishResult) -> None:
        if outcome.rejected:
            self._metrics.rejected.labels(outcome.rejected).inc()
        else:
            self._metrics.diagnosed.inc()
        if result.no_subscribers and not outcome.rejected:
            # No receipt: a diagnosis that nobody hears must not settle the frame. The edge sends it again, with
            # growing pauses, until somebody listens.
            self._metrics.unheard.inc()
            self._warn_unheard(outcome.publication.topic)
        elif outcome.receipt is not None:
            self._outbox.publish_soon(outcome.receipt).add_done_callback(log_receipt)
        self._metrics.stale.inc(outcome.job.acknowledge())
        self._metrics.stage("total", time.monotonic() - outcome.job.message.received_at)
        self._settled(outcome)

    def _warn_unheard(self, topic: str) -> None:
        now = time.monotonic()
        if now >= self._warn_unheard_at:
            self._warn_unheard_at = now + _WARN_EVERY_S
            logger.warning(
                "nobody subscribes to %s: start the clinician's dashboard; the edge keeps the frames until then",
                topic,
            )


def log_receipt(future: "Future[PublishResult]") -> None:
    """Say so when a receipt did not reach the broker."""
    error = future.exception() if not future.cancelled() else None
    if error is not None:
        logger.info("a receipt did not reach the broker (the edge will send the frame again): %s", error)
