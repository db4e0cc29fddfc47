"""The MQTT session that every daemon uses: it connects, keeps connected, and never loses a publish in silence.

A publish is acknowledged by the broker or it fails with an error that says why. Nothing is queued while the broker is
away: whoever must not lose a message keeps it (the edge's spool) or waits (`Session.publish_until_acknowledged`).
"""

import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from broker_config import reasons
from broker_config.backoff import ReconnectPauses, backoff_s
from broker_config.delivery import Publication
from broker_config.errors import (
    ConnectionRefused,
    NotConnected,
    PublishRefused,
    PublishTimeout,
    SessionError,
)
from broker_config.link import Ending, Link
from broker_config.paho_client import LinkOptions
from broker_config.settings import BrokerSettings
from broker_config.traffic import IncomingMessage, PublishResult, Subscription

__all__ = [
    "BrokerSettings",
    "Ending",
    "IncomingMessage",
    "PublishResult",
    "Session",
    "Subscription",
    "backoff_s",
]

logger = logging.getLogger(__name__)

_SHORT_S = 10.0
_SUSPICIOUS = 3


class Session:
    """An MQTT session that connects in the background and reconnects for ever.

    Args:
        broker: How to reach the broker.
        client_id: Client id, one for each device or worker, and nothing that identifies a patient.
        subscriptions: Subscribed to on every connection.
        on_message: Takes each message on the network thread: hand over to a queue at once, never wait, never call
            `publish`. A message whose handler raises is logged and acknowledged.
        birth: Makes the publication that announces this client; published on every connection, after the
            subscriptions stand.
        will: What the broker publishes when this client vanishes.
        clean_start: Forget what the broker may have kept for this client id.
        manual_ack: The handler acknowledges each message itself, when its work is done.
        receive_maximum: How many messages the broker may have unacknowledged towards this client (MQTT 5).
        max_inflight: Upper bound of this client's own unacknowledged publishes; the broker's counts too.
        on_connected: Called on the network thread after each connection; it must not wait.
        on_disconnected: Called on the network thread with the reason after each loss.
        on_failed: Called on the network thread after each try to connect that came to nothing, with how it ended and
            when it began (`time.monotonic`).

    Raises:
        SessionError: If it asks for a shared subscription under MQTT 3.1.1.
    """

    def __init__(
        self,
        broker: BrokerSettings,
        *,
        client_id: str,
        subscriptions: Sequence[Subscription] = (),
        on_message: Callable[[IncomingMessage], None] | None = None,
        birth: Callable[[], Publication] | None = None,
        will: Publication | None = None,
        clean_start: bool = True,
        manual_ack: bool = False,
        receive_maximum: int | None = None,
        max_inflight: int = 100,
        on_connected: Callable[[], None] | None = None,
        on_disconnected: Callable[[str], None] | None = None,
        on_failed: Callable[[Ending, float], None] | None = None,
    ) -> None:
        for one in subscriptions:
            if one.topic_filter.startswith("$share/") and broker.protocol != "5":
                raise SessionError(
                    f"the shared subscription {one.topic_filter} needs MQTT 5: set broker.protocol to '5' and use "
                    "Mosquitto or EMQX, or run one worker without a pool"
                )
        self._options = LinkOptions(
            broker=broker,
            client_id=client_id,
            subscriptions=tuple(subscriptions),
            will=will,
            clean_start=clean_start,
            manual_ack=manual_ack,
            receive_maximum=receive_maximum,
            max_inflight=max_inflight,
        )
        self._broker = broker
        self._birth = birth
        self._handle = on_message
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._on_failed = on_failed
        self._changed = threading.Condition()
        self._link: Link | None = None
        self._ready: Link | None = None
        self._refused = False
        self._connections = 0
        self._last_error = f"not connected to {reasons.address(broker)} yet"
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Life

    def start(self) -> None:
        """Begin to connect, in the background; returns at once. A session starts once."""
        if self._thread is not None:
            raise SessionError("this session was started before: make a new one")
        self._thread = threading.Thread(target=self._run, name=f"mqtt-{self._options.client_id}", daemon=True)
        self._thread.start()

    def connect(self, timeout_s: float | None = None) -> None:
        """Start and wait for the connection: for a command that is of no use without one.

        Raises:
            ConnectionRefused: If the broker refuses; at the first refusal.
            NotConnected: If there is no connection in time (the connect timeout, unless given).
        """
        self.start()
        limit = self._broker.connect_timeout_s if timeout_s is None else timeout_s
        with self._changed:
            self._changed.wait_for(lambda: self._ready is not None or self._refused, limit)
            ready, refused, cause = self._ready is not None, self._refused, self._last_error
        if not ready:
            self.stop(1.0)
            raise (ConnectionRefused if refused else NotConnected)(cause)

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until connected and subscribed; returns whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ready is not None, timeout_s)

    def stop(self, timeout_s: float = 5.0, *, goodbye: Publication | None = None) -> None:
        """Send the acknowledgements that wait, say goodbye, disconnect. The will is then not published.

        Args:
            timeout_s: For everything together; afterwards the connection is left to end by itself.
            goodbye: Published and acknowledged first, if connected: usually the state ``offline``.
        """
        deadline = time.monotonic() + timeout_s
        if goodbye is not None and self.connected and not self._stopping.is_set():
            try:
                self.publish(goodbye, timeout_s=max(0.1, timeout_s / 2))
            except SessionError as error:
                logger.warning("the goodbye did not reach the broker: %s", error)
        with self._changed:
            self._stopping.set()
            link = self._link
            self._changed.notify_all()
        if link is not None:
            link.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(max(0.1, deadline - time.monotonic()))

    def unsubscribe(self, topic_filter: str, *, timeout_s: float = 5.0) -> bool:
        """Take no more from a topic filter, on this connection and on every later one.

        What the broker has already routed here may still come. Under a shared subscription it routes what is new to
        the others of the group from now on.

        Args:
            topic_filter: One that the session was made with.
            timeout_s: How long to wait for the broker's word.

        Returns:
            Whether the broker confirmed it in time; false also without a connection.

        Raises:
            SessionError: If the session does not subscribe to it, or on the network thread, where waiting would block
                itself.
        """
        with self._changed:
            kept = tuple(one for one in self._options.subscriptions if one.topic_filter != topic_filter)
            if len(kept) == len(self._options.subscriptions):
                raise SessionError(f"the session does not subscribe to {topic_filter!r}")
            link = self._link
            if link is not None and link.on_network_thread:
                raise SessionError("unsubscribe() waits for the network thread and was called on it")
            self._options = replace(self._options, subscriptions=kept)
        if link is None:
            return False
        try:
            return link.unsubscribe(topic_filter).result(timeout_s)
        except concurrent.futures.TimeoutError:
            return False

    # State

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection and every subscription."""
        return self._ready is not None

    @property
    def connections(self) -> int:
        """How many times it has connected."""
        return self._connections

    @property
    def last_error(self) -> str:
        """Why there is no connection and what to do about it; empty while connected."""
        return self._last_error

    @property
    def receive_maximum(self) -> int:
        """How many publishes may be in flight: the broker's figure (20 under 3.1.1), bounded by ``max_inflight``."""
        link = self._ready
        return link.window.receive_maximum if link is not None else min(20, self._options.max_inflight)

    @property
    def maximum_packet_bytes(self) -> int | None:
        """Largest packet that the broker takes; none if it did not say and no setting does."""
        link = self._ready
        return link.window.maximum_packet_bytes if link is not None else self._broker.max_packet_bytes

    # Publishing

    def publish_soon(self, publication: Publication) -> "concurrent.futures.Future[PublishResult]":
        """Publish without waiting; any thread may call it.

        Returns:
            A future with the acknowledgement, or with `NotConnected`, `PublishRefused`, `PayloadTooLarge` or
            `PublishTimeout` (too many wait). When the connection drops it fails with `NotConnected`: the message may
            or may not have arrived, and it is not sent again by itself.
        """
        link = self._ready
        if link is not None:
            return link.submit(publication)
        future: concurrent.futures.Future[PublishResult] = concurrent.futures.Future()
        future.set_exception(NotConnected(self.last_error or "the session is not connected: publish again"))
        return future

    def publish(self, publication: Publication, *, timeout_s: float | None = None) -> PublishResult:
        """Publish and wait for the broker's acknowledgement.

        Args:
            publication: What to publish.
            timeout_s: How long to wait; ``broker.publish_timeout_s`` unless given.

        Raises:
            NotConnected: If there is no connection, or it drops before the acknowledgement.
            PublishRefused: If the broker refuses (MQTT 5).
            PublishTimeout: If no acknowledgement comes in time.
            PayloadTooLarge: If the broker would not take a packet so large; nothing was sent.
            SessionError: If called on the network thread, where waiting would block itself.
        """
        link = self._link
        if link is not None and link.on_network_thread:
            raise SessionError(
                "publish() waits for the network thread and was called on it: use publish_soon() in on_message"
            )
        limit = self._broker.publish_timeout_s if timeout_s is None else timeout_s
        future = self.publish_soon(publication)
        try:
            return future.result(limit)
        except concurrent.futures.TimeoutError:
            unsent = future.cancel()
            raise PublishTimeout(
                f"no acknowledgement for {publication.topic} within {limit:g} s; "
                + ("it was not sent" if unsent else "it may or may not have arrived")
                + ": publish again"
            ) from None

    def publish_until_acknowledged(self, publication: Publication, *, stop: threading.Event) -> PublishResult:
        """Publish again and again, through outages, until the broker acknowledges.

        Args:
            publication: What to publish.
            stop: Gives up when set.

        Raises:
            PayloadTooLarge: If the broker would not take a packet so large.
            PublishRefused: If the broker refuses for a reason that no repetition cures, such as its access rules.
            NotConnected: If ``stop`` was set, or the session stopped, before the acknowledgement.
        """
        attempt = 0
        while not (stop.is_set() or self._stopping.is_set()):
            if not self.wait_connected(0.25):
                continue
            try:
                return self.publish(publication)
            except PublishRefused as error:
                if error.reason_code in reasons.FINAL:
                    raise
                cause: SessionError = error
            except (NotConnected, PublishTimeout) as error:
                cause = error
            attempt += 1
            logger.info("publishing again after %d tries: %s", attempt, cause)
            stop.wait(backoff_s(attempt, first_s=0.25, max_s=5.0))
        raise NotConnected(f"stopped before the broker acknowledged {publication.topic}")

    # The network thread

    def _run(self) -> None:
        pauses = ReconnectPauses(self._broker.reconnect_max_s)
        short = 0
        while not self._stopping.is_set():
            with self._changed:
                if self._stopping.is_set():
                    break
                link = self._link = Link(self._options, on_ready=self._became_ready, on_message=self._take)
            began = time.monotonic()
            link.run()
            held_s = time.monotonic() - began if link is self._ready else 0.0
            short = short + 1 if 0.0 < held_s < _SHORT_S else 0
            if short >= _SUSPICIOUS and link.end:
                link.end += (
                    f" (lost {short} times at once after connecting: if another client calls itself "
                    f"{self._options.client_id!r}, the broker ends one for the other; give each a name of its own)"
                )
            self._after(link, began)
            pause_s = pauses.after(time.monotonic(), held_s=held_s, taken_over=link.taken_over)
            self._stopping.wait(pause_s)
        with self._changed:
            self._link = self._ready = None
            self._last_error = "the session was stopped"
            self._changed.notify_all()

    def _after(self, link: Link, began: float) -> None:
        with self._changed:
            lost = self._ready is link
            self._ready = None
            known = self._last_error
            self._last_error = link.end or known
            self._refused = link.ending == "refused"
            self._changed.notify_all()
        if link.end and link.end != known:
            logger.warning("%s", link.end)
        if lost and self._on_disconnected is not None:
            _guarded(lambda: self._on_disconnected(link.end), "on_disconnected")  # type: ignore[misc]
        elif not lost and link.ending != "stopped" and self._on_failed is not None:
            _guarded(lambda: self._on_failed(link.ending, began), "on_failed")  # type: ignore[misc]

    def _became_ready(self) -> None:
        link = self._link
        assert link is not None  # noqa: S101 - it is the one that calls
        if self._birth is not None:
            birth = self._birth
            _guarded(lambda: link.submit(birth()).add_done_callback(_log_failure), "birth")
        with self._changed:
            self._ready = link
            self._connections += 1
            self._last_error = ""
            self._refused = False
            self._changed.notify_all()
        logger.info("connected to %s", reasons.address(self._broker))
        if self._on_connected is not None:
            _guarded(self._on_connected, "on_connected")

    def _take(self, message: IncomingMessage) -> None:
        if self._handle is not None:
            self._handle(message)
        else:
            message.acknowledge()


def _guarded(callback: Callable[[], object], name: str) -> None:
    try:
        callback()
    except Exception:
        logger.exception("%s failed", name)


def _log_failure(future: "concurrent.futures.Future[PublishResult]") -> None:
    error = future.exception() if not future.cancelled() else None
    if error is not None:
        logger.warning("the birth did not reach the broker: %s", error)
