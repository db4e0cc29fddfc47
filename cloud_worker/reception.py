"""What the broker delivers, sorted on the network thread, which must never wait."""

import logging
from collections.abc import Callable

from broker_config.errors import TopicError
from broker_config.session import IncomingMessage
from broker_config.topics import TopicName, Topics
from cloud_worker.desk_stops import DeskStops
from cloud_worker.fleet_wish import FleetWish
from cloud_worker.job import Job, Ledger
from cloud_worker.metrics import Metrics

logger = logging.getLogger(__name__)


class Reception:
    """Hands frames on and counts every message.

    A frame that is in hand already, delivered again because a connection died or its edge lost patience, joins
    the job at hand: the work is done once, and every delivery is acknowledged after the one outcome. A frame whose outcome
    was told before is worked on again, for nobody can know that the outcome arrived.

    Args:
        topics: Topic names.
        ledger: The jobs in hand.
        wish: Told which model the fleet should serve.
        stops: Told which model versions are stopped.
        metrics: Where to count.
        offer: Takes a job in without waiting; returns whether there was room.
        decline: Leaves a job to another worker.
        connection: Returns the number of the present connection.

    Attributes:
        declining: Whether every frame is left to other workers from now on.
    """

    def __init__(
        self,
        topics: Topics,
        *,
        ledger: Ledger,
        wish: FleetWish,
        stops: DeskStops,
        metrics: Metrics,
        offer: Callable[[Job], bool],
        decline: Callable[[Job], None],
        connection: Callable[[], int],
    ) -> None:
        self._topics = topics
        self._ledger = ledger
        self._wish = wish
        self._stops = stops
        self._metrics = metrics
        self._offer = offer
        self._decline = decline
        self._connection = connection
        self.declining = False

    def take(self, message: IncomingMessage) -> None:
        """Take one message."""
        name = self._parse(message.topic)
        if (name is not None and name.kind == "frame") or (name is None and "/frame/" in message.topic):
            self._take_frame(message, name)
        elif name is not None and name.kind == "fleet-model":
            self._metrics.messages.labels("fleet-model", self._wish.note(message.payload)).inc()
            message.acknowledge()
        elif name is not None and name.kind == "fleet-stops":
            self._metrics.messages.labels("fleet-stops", self._stops.note(message.payload)).inc()
            message.acknowledge()
        else:
            # The embedded broker delivers retained messages that nobody asked for.
            self._metrics.messages.labels("other", "not_asked_for").inc()
            message.acknowledge()

    def _take_frame(self, message: IncomingMessage, name: TopicName | None) -> None:
        self._metrics.frames.labels(name.detail if name else "unknown").inc()
        connection = self._connection()
        twin = self._ledger.same(message)
        if twin is not None and not self.declining and twin.join(message, connection=connection):
            self._metrics.joined.inc()
            return
        job = Job(message, name, connection)
        if self.declining:
            self._decline(job)
        elif not self._offer(job):
            self._metrics.overflow.inc()
            logger.warning(
                "the queue is full: a frame was left to its edge's resend", extra={"frame_id": job.frame_id}
            )

    def _parse(self, topic: str) -> TopicName | None:
        try:
            return self._topics.parse(topic)
        except TopicError:
            return None
