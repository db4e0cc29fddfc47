"""Ingest: from the broker into the record.

The network thread only puts messages into a bounded queue. One writer thread takes them in batches, applies each batch
in one transaction, and only then acknowledges them. While the record cannot be written (disk full, database locked)
the batch is tried again for ever, nothing is acknowledged, and the dashboard is not ready.
"""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from broker_config.codec import decode
from broker_config.errors import DecodeError, TopicError
from broker_config.messages import DeviceState, Diagnosis, FleetModel, Frame, Message, Rejection, WorkerState
from broker_config.topics import TopicKind, TopicName, Topics
from clinician_dashboard.metrics import Metrics
from clinician_dashboard.record.changes import Applied
from clinician_dashboard.record.writer import Item, Malformed

logger = logging.getLogger(__name__)

MAX_QUEUED = 1024
MAX_QUEUED_BYTES = 256 * 1024 * 1024
MAX_BATCH = 64
MAX_BATCH_BYTES = 32 * 1024 * 1024
RETRY_FIRST_S = 0.2
RETRY_LAST_S = 5.0

# What a full disk or a locked database raises: trying again is the remedy.
_PASSING = (OperationalError, InterfaceError, OSError)

_TYPES: dict[TopicKind, type[Message]] = {
    "frame": Frame,
    "diagnosis": Diagnosis,
    "rejected": Rejection,
    "state": DeviceState,
    "worker-state": WorkerState,
    "fleet-model": FleetModel,
}


class Incoming(Protocol):
    """A delivered message, as the session hands it over."""

    @property
    def topic(self) -> str:
        """Topic name."""
        ...

    @property
    def payload(self) -> bytes:
        """Payload as it came."""
        ...

    def acknowledge(self) -> bool:
        """Acknowledge it; false when the connection that delivered it is gone, which is harmless."""
        ...


class Writer(Protocol):
    """Applies a batch of messages in one transaction."""

    def apply(self, items: Sequence[Item]) -> Applied:
        """Apply and commit; raises what the database or the disk raises, with nothing applied."""
        ...


@dataclass(frozen=True)
class IngestState:
    """What the health page shows of the ingest at one moment."""

    queued: int
    queued_bytes: int
    overflow: int
    fault: str
    fleet_model: FleetModel | None


class Ingest:
    """Takes messages from the session and writes them into the record.

    Args:
        topics: The topic names in use.
        writer: The record's writer; used from one thread only.
        on_applied: Called after each commit with what it did; must be quick and must not raise.
        metrics: Where it counts.
    """

    def __init__(
        self, *, topics: Topics, writer: Writer, on_applied: Callable[[Applied], None], metrics: Metrics
    ) -> None:
        self._topics = topics
        self._writer = writer
        self._on_applied = on_applied
        self._metrics = metrics
        self._queue: queue.Queue[Incoming] = queue.Queue(MAX_QUEUED)
        self._queued_bytes = 0
        self._bytes_lock = threading.Lock()
        self._overflow = 0
        self._fault = ""
        self._fleet_model: FleetModel | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> IngestState:
        """The present state."""
        return IngestState(
            self._queue.qsize(), self._queued_bytes, self._overflow, self._fault, self._fleet_model
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
        size = len(message.payload)
        with self._bytes_lock:
            fits = self._queued_bytes + size <= MAX_QUEUED_BYTES
            if fits:
                self._queued_bytes += size
        if fits:
            try:
                self._queue.put_nowait(message)
            except queue.Full:
                self._release(size)
            else:
                return
        self._overflow += 1
        self._metrics.overflow.inc()
        message.acknowledge()
        if self._overflow.bit_count() == 1:  # the 1st, 2nd, 4th, 8th ...: told, without flooding the log
            logger.warning(
                "the writer's queue is full: %d messages left to come again so far", self._overflow
            )

    def _release(self, size: int) -> None:
        with self._bytes_lock:
            self._queued_bytes -= size

    # The writer's thread

    def _run(self) -> None:
        while True:
            batch = self._take()
            if not batch:
                if self._stopping.is_set():
                    return
                continue
            items = [item for message in batch if (item := self._decode(message)) is not None]
            if items and not self._write(items):
                return
            for message in batch:
                message.acknowledge()
                self._release(len(message.payload))
            self._metrics.queue.set(self._queue.qsize())

    def _take(self) -> list[Incoming]:
        batch: list[Incoming] = []
        size = 0
        try:
            batch.append(self._queue.get(timeout=0.1))
            size = len(batch[0].payload)
            while len(batch) < MAX_BATCH and size < MAX_BATCH_BYTES:
                batch.append(self._queue.get_nowait())
                size += len(batch[-1].payload)
        except queue.Empty:
            pass
        return batch

    def _write(self, items: list[Item]) -> bool:
        """Write ``items``, however long it takes; false when told to stop before it worked."""
        pause = RETRY_FIRST_S
        while True:
            try:
                applied = self._writer.apply(items)
            except _PASSING as error:
                self._metrics.faults.inc()
                self._fault = _sentence(error)
                logger.warning(
                    "%s; trying again in %.1f s, nothing is acknowledged meanwhile", self._fault, pause
                )
                if self._stopping.wait(pause):
                    return False
                pause = min(RETRY_LAST_S, pause * 2)
            except Exception as error:  # a message that breaks the writer must not stop the others
                if len(items) > 1:
                    return all(self._write([item]) for item in items)
                if isinstance(items[0], Malformed):
                    logger.exception("a counter could not be kept")
                    return True
                logger.exception("a %s could not be entered into the record", items[0].kind)
                items = [
                    Malformed(
                        "unstorable",
                        f"a {items[0].kind} that the record cannot hold ({type(error).__name__})",
                    )
                ]
            else:
                break
        if self._fault:
            logger.info("the record can be written again")
            self._fault = ""
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
            return None  # nothing of ours, or an empty payload that clears a retained message
        try:
            item = decode(message.payload, message_type)
        except DecodeError as error:
            logger.warning("unusable message on %s: %s", message.topic, error)
            return Malformed(error.code, f"{message.topic}: {error}")
        if isinstance(item, FleetModel):
            self._fleet_model = item
            return None
        if not _matches(name, item):
            return Malformed(
                "topic_mismatch",
                f"{message.topic}: the {item.kind} inside names another site or device: check that sender's settings, and "
                "the broker's access rules",
            )
        return item


def _matches(name: TopicName, item: Message) -> bool:
    """Whether a message comes from whom it says: the broker's access rules guard the topic, not the payload."""
    if isinstance(item, WorkerState):
        return item.worker == name.device
    return (getattr(item, "site", None), getattr(item, "device", None)) == (name.site, name.device)


def _sentence(error: Exception) -> str:
    if isinstance(error, SQLAlchemyError):
        cause = str(getattr(error, "orig", None) or error).splitlines()[0]
        return f"the record cannot be written ({cause}): free disk space, or end what locks the database"
    reason = getattr(error, "strerror", None) or str(error)
    return f"an image cannot be written ({reason}): free disk space, and check the folder's permissions"
