"""The mailroom: takes what the broker delivers, and brings each message to whom it concerns.

The network thread only leaves messages here. Whatever comes is counted once, with what became of it; what cannot be read
is passed over.
"""

import logging
import threading
from collections.abc import Callable

from broker_config.codec import MAX_JSON_BYTES, decode
from broker_config.delivery import Publication, publication
from broker_config.desk_messages import Review
from broker_config.device_messages import Command
from broker_config.errors import DecodeError, TopicError
from broker_config.fleet_messages import WorkerState
from broker_config.session import IncomingMessage
from broker_config.topics import TopicName, Topics
from edge_agent.inbox import Inbox
from edge_agent.orders import Arrived, OrderDesk
from edge_agent.presence import Presence
from edge_agent.status import Counters
from edge_agent.uplink import Uplink

logger = logging.getLogger(__name__)

_MAX_WAITING_BYTES = 8_000_000
_MESSAGE_COST = 500  # memory of an empty message


class Mailroom:
    """Sorts messages.

    Args:
        topics: Topic names.
        site: This device's site.
        device: This device.
        uplink: Takes receipts and workers' states.
        presence: Takes this device's own state.
        desk: Takes orders.
        answer: Publishes an order's answer.
        counters: Where to count.
    """

    def __init__(
        self,
        *,
        topics: Topics,
        site: str,
        device: str,
        uplink: Uplink,
        presence: Presence,
        desk: OrderDesk,
        answer: Callable[[Publication], None],
        counters: Counters,
    ) -> None:
        self._topics = topics
        self._site, self._device = site, device
        self._receipts = topics.receipt(site, device)
        self._uplink = uplink
        self._presence = presence
        self._desk = desk
        self._answer = answer
        self._counters = counters
        self._inbox: Inbox[IncomingMessage] = Inbox(max_bytes=_MAX_WAITING_BYTES)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to sort, on a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="mailroom", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop sorting."""
        self._stopping.set()
        self._inbox.ring()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def deliver(self, message: IncomingMessage) -> None:
        """Take a message from the network thread; never waits."""
        size = len(message.payload)
        if size > MAX_JSON_BYTES:
            self._counters.message(self._kind(message.topic), "too_large")
        elif message.topic == self._receipts:
            self._uplink.receipt_message(message.payload)
        elif not self._inbox.offer(message, size=size + _MESSAGE_COST):
            self._counters.message(self._kind(message.topic), "overflow")

    def _run(self) -> None:
        while not self._stopping.is_set():
            for message in self._inbox.take(None):
                self._counters.message(self._kind(message.topic), self._outcome(message))

    def _outcome(self, message: IncomingMessage) -> str:
        try:
            return self._take(message, self._topics.parse(message.topic))
        except TopicError as error:
            logger.warning("a message was passed over: %s", error)
            return "wrong_topic"
        except DecodeError as error:
            logger.warning("a message on %s was passed over: %s", message.topic, error)
            return error.code
        except Exception:
            logger.exception("a message on %s could not be handled", message.topic)
            return "fault"

    def _take(self, message: IncomingMessage, name: TopicName) -> str:
        match name.kind:
            case "worker-state":
                state = decode(message.payload, WorkerState) if message.payload else None
                if state is not None and state.worker != name.device:
                    return "wrong_topic"
                self._uplink.worker_told(name.device, state, retained=message.retain)
            case "state" if (name.site, name.device) == (self._site, self._device):
                self._presence.hear(message.payload, retained=message.retain)
            case "review" if (name.site, name.device) == (self._site, self._device):
                return self._signed(decode(message.payload, Review))
            case "command" if not message.payload:
                return "empty"
            case "command":
                return self._obey(message, name.detail)
            case _:
                return "wrong_topic"
        return "taken"

    def _signed(self, review: Review) -> str:
        if (review.site, review.device) != (self._site, self._device):
            return "wrong_topic"
        if not self._counters.signed(review.case, review.version):
            return "repeated"
        logger.info("case %s is signed: version %d, %s", review.case, review.version, review.status)
        return "taken"

    def _obey(self, message: IncomingMessage, verb: str) -> str:
        command = decode(message.payload, Command)
        done = self._desk.obey(Arrived(command, verb, retained=message.retain))
        if done.response is not None:
            # Always on this device's own topic, whatever the order asks for: an answer must not land among the frames.
            topic = self._topics.response(self._site, self._device, command.verb)
            self._answer(publication(topic, done.response))
        return done.outcome

    def _kind(self, topic: str) -> str:
        try:
            kind = self._topics.parse(topic).kind
        except TopicError:
            return "other"
        return kind if kind in ("receipt", "command", "worker-state", "state", "review") else "other"
