"""Ingest: from the broker into the record.

The network thread only puts messages into a bounded queue (`clinician_dashboard.intake`). One writer thread takes them in
batches, applies each batch in one transaction, and only then acknowledges them. While the record cannot be written (disk
full, database locked, lost or damaged) the batch is tried again for ever, nothing is acknowledged, and the dashboard is not
ready.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from broker_config.codec import decode
from broker_config.device_messages import DeviceState
from broker_config.errors import DecodeError, TopicError
from broker_config.fleet_messages import FleetModel, WorkerState
from broker_config.messages import Diagnosis, Frame, Message, Rejection
from broker_config.topics import TopicKind, TopicName, Topics
from clinician_dashboard.intake import Incoming, Intake
from clinician_dashboard.metrics import Metrics
from clinician_dashboard.pace import Pace
from clinician_dashboard.record.changes import Applied
from clinician_dashboard.record.faults import is_passing, sentence
from clinician_dashboard.record.presence import Heard
from clinician_dashboard.record.writer import Item, Malformed, kind_of

logger = logging.getLogger(__name__)

MAX_BATCH = 256
MAX_BATCH_BYTES = 32 * 1024 * 1024
RETRY_FIRST_S = 0.2
RETRY_LAST_S = 5.0

_TYPES: dict[TopicKind, type[Message]] = {
    "frame": Frame,
    "diagnosis": Diagnosis,
    "rejected": Rejection,
    "state": DeviceState,
    "worker-state": WorkerState,
    "fleet-model": FleetModel,
}


class Writer(Protocol):
    """Applies a batch of messages in one transaction."""

    def apply(self, items: Sequence[Item]) -> Applied:
        """Apply and commit; raises what the database or the disk raises, with nothing applied."""
        ...


@dataclass(frozen=True)
class IngestState:
    """What the health page shows of the ingest at one moment.

    Attributes:
        queued: Messages that wait for the writer.
        queued_bytes: Their size.
        overflow: Messages that found the queue full; they come again.
        fault: Why the record cannot be written, with the remedy; empty while it can.
        fleet_model: The model that the fleet should serve.
        behind_s: How old the frames are that enter the record now, in seconds; 0 when none wait.
        frames_per_s: Frames recorded a second, over the last ten seconds.
    """

    queued: int
    queued_bytes: int
    overflow: int
    fault: str
    fleet_model: FleetModel | None
    behind_s: float = 0.0
    frames_per_s: float = 0.0


class Ingest:
    """Takes messages from the session and writes them into the record.

    Args:
        topics: The topic names in use.
        writer: The record's writer; used from one thread only.
        on_applied: Called after each commit with what it did; must be quick and must not raise.
        metrics: Where it counts.
        directory: Where the record lives, for the remedy of a fault.
    """

    def __init__(
        self,
        *,
        topics: Topics,
        writer: Writer,
        on_applied: Callable[[Applied], None],
        metrics: Metrics,
        directory: Path | None = None,
    ) -> None:
        self._topics = topics
        self._writer = writer
        self._on_applied = on_applied
        self._metrics = metrics
        self._directory = directory
        self._intake = Intake()
        self._pace = Pace()
        self._overflow = 0
        self._fault = ""
        self._fleet_model: FleetModel | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> IngestState:
        """The present state."""
        return IngestState(
            queued=len(self._intake),
            queued_bytes=self._intake.size_bytes,
            overflow=self._overflow,
            fault=self._fault,
            fleet_model=self._fleet_model,
            behind_s=self._pace.behind_s,
            frames_per_s=self._pace.frames_per_s,
        )

    def start(self) -> None:
        """Start the writer's thread."""
        self._thread = threading.Thread(target=self._run, name="record-writer", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Write what is queued and end; return whether all of it was written in time.

        What was not written was not acknowledged either, so it comes again.
        """
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    def receive(self, message: Incoming) -> None:
        """Take a message; called from the network thread, so it never waits.

        A message that finds the queue full is acknowledged and let go: unacknowledged it would hold a place in the
        broker's window for as long as the connection lasts. No receipt follows, so the edge sends the frame again, and
        with it comes its diagnosis.
        """
        if self._intake.put(message, lane=self._lane(message.topic)):
            return
        self._overflow += 1
        self._metrics.overflow.inc()
        self._metrics.messages.labels("unknown", "overflow").inc()
        message.acknowledge()
        if self._overflow.bit_count() == 1:  # the 1st, 2nd, 4th, 8th ...: told, without flooding the log
            logger.warning(
                "the writer's queue is full: %d messages left to come again so far", self._overflow
            )

    def _lane(self, topic: str) -> str:
        """Return the device of a routine frame: those wait in turns; everything else goes first."""
        try:
            name = self._topics.parse(topic)
        except TopicError:
            return ""
        return f"{name.site}/{name.device}" if (name.kind, name.detail) == ("frame", "routine") else ""

    # The writer's thread

    def _run(self) -> None:
        while True:
            batch = self._intake.take(MAX_BATCH, MAX_BATCH_BYTES, timeout_s=0.1)
            if not batch:
                if self._stopping.is_set():
                    return
                continue
            items = [item for message in batch if (item := self._decode(message)) is not None]
            if items and not self._write(items):
                return
            for message in batch:
                message.acknowledge()
            self._intake.release(batch)
            self._metrics.queue.set(len(self._intake))

    def _write(self, items: list[Item]) -> bool:
        """Write ``items``, however long it takes; false when told to stop before it worked."""
        pause = RETRY_FIRST_S
        while True:
            try:
                applied = self._writer.apply(items)
            except Exception as error:  # a message that breaks the writer must not stop the others
                if is_passing(error):
                    self._metrics.faults.inc()
                    self._fault = sentence(error, directory=self._directory)
                    logger.warning(
                        "%s; trying again in %.1f s, nothing is acknowledged meanwhile", self._fault, pause
                    )
                    if self._stopping.wait(pause):
                        return False
                    pause = min(RETRY_LAST_S, pause * 2)
                    continue
                if len(items) > 1:
                    return all(self._write([item]) for item in items)
                if isinstance(items[0], Malformed):
                    logger.exception("a counter could not be kept")
                    return True
                kind = kind_of(items[0])
                logger.exception("a %s could not be entered into the record", kind)
                said = f"a {kind} that the record cannot hold ({type(error).__name__})"
                items = [Malformed("unstorable", said, kind)]
            else:
                break
        if self._fault:
            logger.info("the record can be written again")
            self._fault = ""
        self._pace.note(applied)
        self._metrics.batch.observe(len(items))
        self._metrics.count(applied)
        try:
            self._on_applied(applied)
        except Exception:
            logger.exception("what follows a commit failed; the commit stands")
        return True

    def _decode(self, message: Incoming) -> Item | None:
        try:
            name = self._topics.parse(message.topic)
        except TopicError as error:
            return Malformed("unknown_topic", str(error))
        self._metrics.received.labels(name.kind).inc()
        message_type = _TYPES.get(name.kind)
        if message_type is None or not message.payload:
            # Nothing of ours, or an empty payload that clears a retained message.
            self._metrics.messages.labels(name.kind, "empty" if message_type else "not_ours").inc()
            return None
        try:
            item = decode(message.payload, message_type)
        except DecodeError as error:
            logger.warning("unusable message on %s: %s", message.topic, error)
            return Malformed(error.code, f"{message.topic}: {error}", name.kind)
        if isinstance(item, FleetModel):
            self._fleet_model = item
            self._metrics.messages.labels(name.kind, "taken").inc()
            return None
        return self._checked(name, item, message)

    @staticmethod
    def _checked(name: TopicName, item: Message, message: Incoming) -> Item:
        if not _matches(name, item):
            return Malformed(
                "topic_mismatch",
                f"{message.topic}: the {item.kind} inside names another site or device: check that sender's settings, and "
                "the broker's access rules",
                name.kind,
            )
        return Heard(item, retained=message.retain) if isinstance(item, DeviceState | WorkerState) else item


def _matches(name: TopicName, item: Message) -> bool:
    """Whether a message comes from whom it says: the broker's access rules guard the topic, not the payload."""
    if isinstance(item, WorkerState):
        return item.worker == name.device
    return (getattr(item, "site", None), getattr(item, "device", None)) == (name.site, name.device)
