"""One connection to the broker, from CONNECT to its end, on one thread.

A link wraps one paho client and is never used twice: what was in flight when it ends fails, and the caller decides
what to send again. So paho never queues, never resends on its own and never outlives its connection. Only the
thread in `Link.run` touches paho; other threads hand over publications and acknowledgements and wake it.
"""

import contextlib
import logging
import os
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker_config import reasons
from broker_config.codec import MAX_FRAME_BYTES
from broker_config.credentials import password, tls_context
from broker_config.delivery import Publication
from broker_config.errors import NotConnected, PayloadTooLarge, PublishRefused
from broker_config.mailbox import Mailbox, Outgoing
from broker_config.packets import packet_bytes, publish_properties
from broker_config.settings import BrokerSettings
from broker_config.traffic import IncomingMessage, PublishResult, Subscription

__all__ = ["IncomingMessage", "Link", "LinkOptions", "PublishResult", "Subscription"]

logger = logging.getLogger(__name__)

RECEIVE_MAXIMUM_3_1_1 = 20
"""How many publishes to have in flight where the broker cannot say (MQTT 3.1.1); Mosquitto's own default."""

_MAX_RECEIVED_BYTES = MAX_FRAME_BYTES + 65_536
_MAX_PACKET_BYTES = 268_435_460  # fixed header and the largest remaining length (MQTT 5, section 1.5.5)
_TURN_S = 0.5
_FLUSH_S = 1.0
_STALL_S = 60.0


@dataclass(frozen=True)
class LinkOptions:
    """How a session wants its connections; see `broker_config.session.Session`."""

    broker: BrokerSettings
    client_id: str
    subscriptions: Sequence[Subscription] = ()
    will: Publication | None = None
    clean_start: bool = True
    manual_ack: bool = False
    receive_maximum: int | None = None
    max_inflight: int = 100


class Link:
    """One connection.

    Args:
        options: How to connect.
        on_ready: Called on the network thread once the broker has accepted the connection and every subscription.
        on_message: Called on the network thread with every message.

    Attributes:
        end: Why the link ended, in one sentence; empty while it lives and after a stop that was asked for.
        refused: Whether it ended because the broker refused the connection.
        taken_over: Whether it ended because another client came with the same client id.
        receive_maximum: How many publishes may be in flight.
        maximum_packet_bytes: Largest packet the broker takes, or none if it did not say and no setting does.
    """

    def __init__(
        self,
        options: LinkOptions,
        *,
        on_ready: Callable[[], None],
        on_message: Callable[[IncomingMessage], None],
    ) -> None:
        self._options = options
        self._on_ready = on_ready
        self._on_message = on_message
        self._v5 = options.broker.protocol == "5"
        self._mailbox: Mailbox | None = None
        self._stop = threading.Event()
        # From here on only the network thread looks.
        self._inflight: dict[int, Outgoing] = {}
        self._unsubscribing: dict[int, Future[bool]] = {}
        self._progress_at = 0.0
        self._accepted = False
        self._served = False
        self._wanted: Sequence[Subscription] = ()
        self._suback_mid: int | None = None
        self.end = ""
        self.refused = False
        self.taken_over = False
        self.receive_maximum = min(RECEIVE_MAXIMUM_3_1_1, options.max_inflight)
        self.maximum_packet_bytes = options.broker.max_packet_bytes

    # For any thread

    def submit(self, publication: Publication) -> "Future[PublishResult]":
        """Hand over a publication; errors come in the future."""
        future: Future[PublishResult] = Future()
        properties = publish_properties(publication, PacketTypes.PUBLISH) if self._v5 else None
        size = packet_bytes(publication, properties)
        limit = self.maximum_packet_bytes or _MAX_PACKET_BYTES
        if size > limit:
            future.set_exception(
                PayloadTooLarge(
                    f"a packet of {size} bytes for {publication.topic}, and the broker at "
                    f"{reasons.address(self._options.broker)} takes {limit}: send a smaller image, or raise the "
                    "broker's limit; nothing was sent"
                )
            )
            return future
        outgoing = Outgoing(publication, properties, future)
        mailbox = self._mailbox
        if mailbox is None:
            outgoing.fail(NotConnected("the session is not connected: publish again"))
        else:
            mailbox.put(outgoing)
        return future

    def acknowledge(self, mid: int) -> bool:
        """Queue the acknowledgement of a message of this link; false when the link has ended."""
        mailbox = self._mailbox
        return mailbox is not None and mailbox.put_ack(mid)

    def unsubscribe(self, topic_filter: str) -> "Future[bool]":
        """Unsubscribe; the future says whether the broker confirmed it."""
        done: Future[bool] = Future()
        # First here, for a connection that has not subscribed yet, and then at the broker, for one that has.
        kept = tuple(one for one in self._options.subscriptions if one.topic_filter != topic_filter)
        self._options = replace(self._options, subscriptions=kept)
        mailbox = self._mailbox
        if mailbox is None:
            done.set_result(False)
        else:
            mailbox.put_unsubscription(topic_filter, done)
        return done

    def stop(self) -> None:
        """Send what acknowledgements wait, DISCONNECT, and end."""
        self._stop.set()
        mailbox = self._mailbox
        if mailbox is not None:
            mailbox.ring()

    @property
    def on_network_thread(self) -> bool:
        """Whether the caller runs on this link's network thread."""
        mailbox = self._mailbox
        return mailbox is not None and mailbox.owned_here

    # The network thread

    def run(self) -> None:
        """Connect, serve until the connection ends, and fail what was in flight. Never raises."""
        self._mailbox = mailbox = Mailbox()
        try:
            client = self._client()
            if client is not None:
                try:
                    self._serve(client, mailbox)
                finally:
                    self._hang_up(client, mailbox)
        except Exception:
            logger.exception("the connection to %s ended by a fault", reasons.address(self._options.broker))
            self.end = self.end or "the connection ended by a fault; see the log: trying again"
        finally:
            self._fail(mailbox.close())

    def _client(self) -> Client | None:
        options, broker = self._options, self._options.broker
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            clean_session=None if self._v5 else options.clean_start,
            protocol=MQTTProtocolVersion.MQTTv5 if self._v5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        # The window is kept here, so that paho sends at once whatever it is given. It must be set before connecting.
        client.max_inflight_messages_set(65_535)
        client.connect_timeout = broker.connect_timeout_s
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_unsubscribe = self._unsubscribed
        client.on_message = self._received
        client.on_publish = self._acknowledged
        client.on_disconnect = self._disconnected
        # With this callback set, paho leaves all writing to the loop below.
        client.on_socket_register_write = _ignore
        try:
            if broker.tls is not None:
                client.tls_set_context(tls_context(broker))
            if broker.username is not None or broker.password_file is not None or broker.password is not None:
                client.username_pw_set(broker.username, password(broker))
        except OSError as error:
            what = getattr(error, "filename", None) or "a TLS file"
            self.end = f"{what} cannot be used ({error.strerror or error}): check the broker's settings"
            return None
        if options.will is not None:
            client.will_set(
                options.will.topic,
                options.will.payload,
                options.will.qos,
                options.will.retain,
                publish_properties(options.will, PacketTypes.WILLMESSAGE) if self._v5 else None,
            )
        try:
            if self._v5:
                client.connect(
                    broker.host,
                    broker.port,
                    broker.keepalive_s,
                    clean_start=options.clean_start,
                    properties=self._connect_properties(),
                )
            else:
                client.connect(broker.host, broker.port, broker.keepalive_s)
        except Exception as error:  # noqa: BLE001 - whatever the resolver, the socket or TLS raises, the cause is told
            self.end = reasons.network(broker, error)
            return None
        return client

    def _connect_properties(self) -> Properties:
        properties = Properties(PacketTypes.CONNECT)
        # A session that starts clean has no use for being kept, and a kept one hoards messages at the broker.
        properties.SessionExpiryInterval = (
            0 if self._options.clean_start else self._options.broker.session_expiry_s
        )
        properties.MaximumPacketSize = _MAX_RECEIVED_BYTES
        if self._options.receive_maximum is not None:
            properties.ReceiveMaximum = self._options.receive_maximum
        return properties

    def _serve(self, client: Client, mailbox: Mailbox) -> None:
        answer_by = time.monotonic() + self._options.broker.connect_timeout_s
        connection = client.socket()
        with selectors.DefaultSelector() as selector:
            mailbox.register(selector)
            selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
            while not self._stop.is_set():
                writing = selectors.EVENT_WRITE if client.want_write() else 0
                selector.modify(connection, selectors.EVENT_READ | writing)
                buffered = connection.pending() > 0 if isinstance(connection, ssl.SSLSocket) else False
                ready = {key.fileobj for key, _ in selector.select(0 if buffered else _TURN_S)}
                mailbox.silence()
                rc = client.loop_read() if buffered or connection in ready else MQTTErrorCode.MQTT_ERR_SUCCESS
                if rc == MQTTErrorCode.MQTT_ERR_SUCCESS and client.socket() is not None:
                    self._pump(client, mailbox)
                    rc = client.loop_write()
                if rc == MQTTErrorCode.MQTT_ERR_SUCCESS and client.socket() is not None:
                    rc = client.loop_misc()
                if rc != MQTTErrorCode.MQTT_ERR_SUCCESS or client.socket() is None:
                    break
                if self._overdue(answer_by, writing=bool(writing)):
                    break

    def _overdue(self, answer_by: float, *, writing: bool) -> bool:
        now = time.monotonic()
        if not self._served and now > answer_by:
            self.end = self.end or reasons.silence(self._options.broker)
            return True
        if writing or not self._inflight:
            self._progress_at = now
        elif now - self._progress_at > max(_STALL_S, 4 * self._options.broker.publish_timeout_s):
            self.end = f"the broker at {reasons.address(self._options.broker)} acknowledges nothing any more: connecting anew"
            return True
        return False

    def _pump(self, client: Client, mailbox: Mailbox) -> None:
        """Give paho what waits: every acknowledgement, and publishes while the window has room.

        The next publish is given only when the one before is written, so that a ping never waits behind a whole
        window of images on a slow line.
        """
        for mid in mailbox.take_acks():
            client.ack(mid, 1)
        for topic_filter, done in mailbox.take_unsubscriptions() if mailbox.is_open else ():
            rc, sent = client.unsubscribe(topic_filter)
            if rc == MQTTErrorCode.MQTT_ERR_SUCCESS and sent is not None:
                self._unsubscribing[sent] = done
            else:
                done.set_result(False)
        while mailbox.is_open and len(self._inflight) < self.receive_maximum and not client.want_write():
            outgoing = mailbox.take()
            if outgoing is None:
                return
            self._send(client, outgoing)
            client.loop_write()

    def _send(self, client: Client, outgoing: Outgoing) -> None:
        publication = outgoing.publication
        try:
            info = client.publish(
                publication.topic,
                publication.payload,
                publication.qos,
                publication.retain,
                outgoing.properties,
            )
        except ValueError as error:
            outgoing.future.set_exception(
                PublishRefused(
                    f"{publication.topic!r:.200} cannot be published ({error}): use broker_config.topics",
                    reason_code=reasons.TOPIC_NAME_INVALID,
                )
            )
            return
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            outgoing.future.set_exception(
                NotConnected("the connection to the broker has just ended: publish again")
            )
        elif publication.qos == 0:
            outgoing.future.set_result(PublishResult())
        else:
            self._inflight[info.mid] = outgoing

    def _hang_up(self, client: Client, mailbox: Mailbox) -> None:
        """End the connection: politely after a stop, at once otherwise."""
        connection = client.socket()
        if connection is None:
            return
        if not self._stop.is_set():
            connection.close()  # and not DISCONNECT: the broker shall publish the will
            return
        self.end = ""
        deadline = time.monotonic() + _FLUSH_S
        mailbox.shut()
        for mid in mailbox.take_acks():
            client.ack(mid, 1)
        # paho closes its socket the moment DISCONNECT is written. A second handle keeps the connection open until the
        # broker has closed its end: it has then read everything, and the next connection cannot overtake it.
        with socket.socket(fileno=os.dup(connection.fileno())) as handle:
            client.disconnect()
            while client.socket() is not None and client.want_write() and time.monotonic() < deadline:
                _wait_writable(connection, 0.1)
                client.loop_write()
            handle.setblocking(True)
            handle.settimeout(max(0.05, deadline - time.monotonic()))
            with contextlib.suppress(OSError):
                handle.shutdown(socket.SHUT_WR)
                while handle.recv(65_536) and time.monotonic() < deadline:
                    pass
        if client.socket() is not None:
            connection.close()

    def _fail(self, unsent: list[Outgoing]) -> None:
        left = [*self._inflight.values(), *unsent]
        self._inflight.clear()
        for done in self._unsubscribing.values():
            done.set_result(False)
        self._unsubscribing.clear()
        for outgoing in left:
            outgoing.fail(
                NotConnected(
                    f"no acknowledgement for {outgoing.publication.topic}: the connection ended "
                    f"({self.end or 'the session was stopped'}); it may or may not have arrived: publish again"
                )
            )

    # Callbacks of paho, all on the network thread

    def _connected(self, client: Client, _data: Any, _flags: Any, reason: Any, properties: Any) -> None:
        broker = self._options.broker
        if reason.is_failure:
            self.refused = True
            self.end = reasons.refusal(broker, reason.value, str(reason))
            return
        self._accepted = True
        # For acknowledgements from now on: a kept session is served before its subscriptions are confirmed.
        assert self._mailbox is not None  # noqa: S101 - the callbacks run within run()
        self._mailbox.open()
        if self._v5:
            announced = getattr(properties, "ReceiveMaximum", 65_535)
            self.receive_maximum = min(announced, self._options.max_inflight)
            packet = getattr(properties, "MaximumPacketSize", None)
            limits = [limit for limit in (packet, broker.max_packet_bytes) if limit is not None]
            self.maximum_packet_bytes = min(limits) if limits else None
        self._wanted = self._options.subscriptions
        if not self._wanted:
            self._become_ready()
            return
        if self._v5:
            wanted = [
                (
                    one.topic_filter,
                    SubscribeOptions(
                        qos=one.qos, noLocal=one.no_local, retainAsPublished=one.retain_as_published
                    ),
                )
                for one in self._wanted
            ]
        else:
            wanted = [(one.topic_filter, one.qos) for one in self._wanted]
        _, self._suback_mid = client.subscribe(wanted)

    def _subscribed(self, client: Client, _data: Any, mid: int, reason_codes: Any, _properties: Any) -> None:
        if mid != self._suback_mid:
            return
        for subscription, reason in zip(self._wanted, reason_codes, strict=False):
            if reason.is_failure:
                self.refused = True
                self.end = (
                    f"the broker at {reasons.address(self._options.broker)} refused the subscription "
                    f"{subscription.topic_filter} ({str(reason).lower()}): allow it in the broker's access rules, or "
                    "use a broker that supports it (the embedded one has no shared subscriptions)"
                )
                connection = client.socket()
                if connection is not None:
                    connection.shutdown(socket.SHUT_RDWR)
                return
        self._become_ready()

    def _unsubscribed(
        self, _client: Client, _data: Any, mid: int, reason_codes: Any, _properties: Any
    ) -> None:
        done = self._unsubscribing.pop(mid, None)
        if done is not None:  # 3.1.1 has no reason codes
            done.set_result(not any(reason.is_failure for reason in reason_codes))

    def _become_ready(self) -> None:
        self._served = True
        self._progress_at = time.monotonic()
        self._on_ready()

    def _received(self, client: Client, _data: Any, message: MQTTMessage) -> None:
        mid, qos = message.mid, message.qos
        incoming: IncomingMessage | None = None
        try:
            incoming = self._incoming(message)
            self._on_message(incoming)
        except Exception:
            # Acknowledged all the same: unacknowledged it would hold its place in the window for ever, and the one
            # who sent it sends it again when no receipt comes.
            logger.exception("a message of %d bytes could not be taken in", len(message.payload))
            if self._options.manual_ack and incoming is not None:
                incoming.acknowledge()
                return
            client.ack(mid, qos)
            return
        if not self._options.manual_ack:
            client.ack(mid, qos)

    def _incoming(self, message: MQTTMessage) -> IncomingMessage:
        properties = message.properties
        mid = message.mid
        acknowledge = (
            (lambda: self.acknowledge(mid)) if self._options.manual_ack and message.qos > 0 else None
        )
        return IncomingMessage(
            topic=message.topic,
            payload=bytes(message.payload),
            qos=message.qos,
            retain=bool(message.retain),
            duplicate=bool(message.dup),
            correlation_data=getattr(properties, "CorrelationData", None),
            response_topic=getattr(properties, "ResponseTopic", None),
            content_type=getattr(properties, "ContentType", None),
            user_properties=tuple((name, value) for name, value in getattr(properties, "UserProperty", ())),
            _acknowledge=_once(acknowledge) if acknowledge is not None else None,
        )

    def _acknowledged(self, _client: Client, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        outgoing = self._inflight.pop(mid, None)
        if outgoing is None:
            return
        self._progress_at = time.monotonic()
        code = int(reason.value)
        if code < reasons.FAILURE:
            outgoing.future.set_result(PublishResult(code))
            return
        topic = outgoing.publication.topic
        remedy = (
            "allow it in the broker's access rules ('hemolink broker acl' prints them)"
            if code == reasons.NOT_AUTHORIZED
            else "look at the broker's log"
        )
        outgoing.future.set_exception(
            PublishRefused(
                f"the broker refused a publish to {topic}: {str(reason).lower()} (0x{code:02X}): {remedy}",
                reason_code=code,
            )
        )

    def _disconnected(self, _client: Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if self.end or self._stop.is_set():
            return
        broker = self._options.broker
        if not self._accepted:
            self.end = reasons.silence(broker)
        elif flags.is_disconnect_packet_from_server:
            self.end = reasons.refusal(broker, int(reason.value), str(reason))
            self.taken_over = int(reason.value) == reasons.SESSION_TAKEN_OVER
        else:
            self.end = f"the connection to {reasons.address(broker)} was lost: connecting anew"


def _ignore(*_: Any) -> None:
    """Do nothing."""


def _once(acknowledge: Callable[[], bool]) -> Callable[[], bool]:
    lock = threading.Lock()
    results: list[bool] = []

    def first_time_only() -> bool:
        with lock:
            if not results:
                results.append(acknowledge())
            return results[0]

    return first_time_only


def _wait_writable(connection: socket.socket, timeout_s: float) -> None:
    """Wait until ``connection`` takes more, or the time is over."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_WRITE)
        selector.select(timeout_s)
