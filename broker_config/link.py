"""One connection to the broker, from CONNECT to its end, on one thread.

A link wraps one paho client and is never used twice: what was in flight when it ends fails, and the caller decides
what to send again. So paho never queues, never resends on its own and never outlives its connection. Only the
thread in `Link.run` touches paho; other threads hand over publications and acknowledgements and wake it. An idle link
sleeps until its next ping.
"""

import logging
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Literal

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode

from broker_config import reasons
from broker_config.delivery import Publication
from broker_config.errors import NotConnected
from broker_config.incoming import incoming_message
from broker_config.keepalive import KeepAlive
from broker_config.mailbox import Mailbox
from broker_config.paho_client import (
    LinkOptions,
    hang_up_politely,
    new_client,
    open_connection,
    ping,
)
from broker_config.send_queue import SendQueue
from broker_config.subscribing import Subscribing
from broker_config.traffic import IncomingMessage, PublishResult
from broker_config.window import Window

logger = logging.getLogger(__name__)

Ending = Literal["stopped", "unreachable", "not-listening", "refused", "unanswered", "lost", "fault"]
"""How a link ended, for counting: nobody at the address, a port where nothing listens, the broker's refusal, no answer to
CONNECT, the loss of a connection that stood, a fault of ours."""

_OK = MQTTErrorCode.MQTT_ERR_SUCCESS
_FLUSH_S = 1.0


class Link:
    """One connection.

    Args:
        options: How to connect.
        on_ready: Called on the network thread once the broker has accepted the connection and every subscription.
        on_message: Called on the network thread with every message.

    Attributes:
        window: What is in flight, and the broker's limits.
        end: Why the link ended, in one sentence; empty while it lives and after a stop that was asked for.
        ending: The same in one word.
        taken_over: Whether it ended because another client came with the same client id.
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
        self._mailbox: Mailbox | None = None
        self._stop = threading.Event()
        self.window = Window(options)
        self._subscribing = Subscribing(options)
        # From here on only the network thread looks.
        self._keepalive: KeepAlive | None = None
        self._accepted = False
        self._served = False
        self.end = ""
        self.ending: Ending = "stopped"
        self.taken_over = False

    # For any thread

    def submit(self, publication: Publication) -> "Future[PublishResult]":
        """Hand over a publication; errors come in the future."""
        outgoing = self.window.prepare(publication)
        mailbox = self._mailbox
        if outgoing.future.done():
            pass
        elif mailbox is None:
            outgoing.fail(NotConnected("the session is not connected: publish again"))
        else:
            mailbox.put(outgoing)
        return outgoing.future

    def acknowledge(self, mid: int) -> bool:
        """Queue the acknowledgement of a message of this link; false when the link has ended."""
        mailbox = self._mailbox
        return mailbox is not None and mailbox.put_ack(mid)

    def unsubscribe(self, topic_filter: str) -> "Future[bool]":
        """Unsubscribe; the future says whether the broker confirmed it."""
        done: Future[bool] = Future()
        # First here, for a connection that has not subscribed yet, and then at the broker, for one that has.
        self._subscribing.forget(topic_filter)
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
            client = self._dial()
            if client is not None:
                try:
                    self._serve(client, mailbox)
                finally:
                    self._hang_up(client, mailbox)
        except Exception:
            logger.exception("the connection to %s ended by a fault", reasons.address(self._options.broker))
            self._note("fault", "the connection ended by a fault; see the log: trying again")
        finally:
            self._subscribing.end()
            self.window.fail(mailbox.close(), self.end or "the session was stopped")

    def _dial(self) -> Client | None:
        broker = self._options.broker
        try:
            client = new_client(self._options)
        except OSError as error:
            what = getattr(error, "filename", None) or "a TLS file"
            self._note(
                "unreachable",
                f"{what} cannot be used ({error.strerror or error}): check the broker's settings",
            )
            return None
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_unsubscribe = self._unsubscribed
        client.on_message = self._received
        client.on_publish = self._acknowledged
        client.on_disconnect = self._disconnected
        try:
            open_connection(client, self._options)
        except Exception as error:  # noqa: BLE001 - whatever the resolver, the socket or TLS raises, the cause is told
            ending: Ending = "not-listening" if isinstance(error, ConnectionRefusedError) else "unreachable"
            self._note(ending, reasons.network(broker, error))
            return None
        return client

    def _serve(self, client: Client, mailbox: Mailbox) -> None:
        broker = self._options.broker
        now = time.monotonic()
        answer_by = now + broker.connect_timeout_s
        keepalive = self._keepalive = KeepAlive(broker.keepalive_s, now)
        connection = client.socket()
        unsent = SendQueue(connection)
        secured = connection if isinstance(connection, ssl.SSLSocket) else None
        watched = selectors.EVENT_READ | selectors.EVENT_WRITE
        with selectors.DefaultSelector() as selector:
            mailbox.register(selector)
            selector.register(connection, watched)
            while not self._stop.is_set():
                wait_s = self._wait_s(keepalive, answer_by, now)
                buffered = secured is not None and secured.pending() > 0
                events = _events(selector.select(0 if buffered else wait_s), connection)
                mailbox.silence()
                now = time.monotonic()
                if events & selectors.EVENT_READ or buffered:
                    keepalive.heard(now)
                    if client.loop_read() != _OK or client.socket() is None:
                        return
                writable = bool(
                    events & selectors.EVENT_WRITE
                )  # watched for only where a packet waits for room
                if writable:
                    keepalive.heard(now)
                    self.window.progressed(now)
                if unsent.is_shrinking():
                    keepalive.heard(now)
                if self._accepted and keepalive.ping_due(now) and ping(client):
                    keepalive.pinged(now)
                waits_for_room = bool(watched & selectors.EVENT_WRITE) and not writable
                if not waits_for_room and (
                    self._pump(client, mailbox, keepalive, now) != _OK or client.socket() is None
                ):
                    return
                unsent.note()
                if self._overdue(keepalive, answer_by, now):
                    return
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.want_write() else 0)
                if wanted != watched:
                    selector.modify(connection, wanted)
                    watched = wanted

    def _wait_s(self, keepalive: KeepAlive, answer_by: float, now: float) -> float:
        """Return how long nothing needs to be done, unless something happens."""
        at = self.window.stall_at()
        if not self._served:
            at = min(at, answer_by)
        if self._accepted:
            at = min(at, now + keepalive.wait_s(now))
        return max(0.0, at - now)

    def _overdue(self, keepalive: KeepAlive, answer_by: float, now: float) -> bool:
        broker = self._options.broker
        where = reasons.address(broker)
        if not self._served and now >= answer_by:
            self._note("unanswered", reasons.silence(broker))
        elif self._accepted and keepalive.silent(now):
            self._note(
                "lost", f"nothing comes from {where} any more, not even an answer to a ping: connecting anew"
            )
        elif now >= self.window.stall_at():
            self._note("lost", f"the broker at {where} acknowledges nothing any more: connecting anew")
        else:
            return False
        return True

    def _pump(self, client: Client, mailbox: Mailbox, keepalive: KeepAlive, now: float) -> MQTTErrorCode:
        """Write what waits: every acknowledgement, and publishes while the window has room.

        The next publish is given only when the one before is written, so that a ping never waits behind a whole
        window of images on a slow line.
        """
        for mid in mailbox.take_acks():
            client.ack(mid, 1)
        for topic_filter, done in mailbox.take_unsubscriptions() if mailbox.is_open else ():
            self._subscribing.leave(client, topic_filter, done)
        while True:
            if client.want_write():
                rc = client.loop_write()
                keepalive.sent(now, blocked=client.want_write())
                if rc != _OK or client.socket() is None:
                    return rc
                if client.want_write():
                    return _OK
            outgoing = mailbox.take() if mailbox.is_open and self.window.has_room else None
            if outgoing is None:
                return _OK
            self.window.send(client, outgoing, now)

    def _hang_up(self, client: Client, mailbox: Mailbox) -> None:
        """End the connection: politely after a stop, at once otherwise."""
        connection = client.socket()
        if connection is None:
            return
        if not self._stop.is_set():
            connection.close()  # and not DISCONNECT: the broker shall publish the will
            return
        self.end, self.ending = "", "stopped"
        mailbox.shut()
        for mid in mailbox.take_acks():
            client.ack(mid, 1)
        hang_up_politely(client, time.monotonic() + _FLUSH_S)

    def _note(self, ending: Ending, sentence: str) -> None:
        """Keep the first reason of the end; later ones are its consequences."""
        if not self.end:
            self.ending, self.end = ending, sentence

    # Callbacks of paho, all on the network thread

    def _connected(self, client: Client, _data: Any, _flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._note("refused", reasons.refusal(self._options.broker, reason.value, str(reason)))
            return
        self._accepted = True
        # For acknowledgements from now on: a kept session is served before its subscriptions are confirmed.
        assert self._mailbox is not None  # noqa: S101 - the callbacks run within run()
        self._mailbox.open()
        self.window.announce(properties)
        asked_s = getattr(properties, "ServerKeepAlive", 0)
        if self._keepalive is not None and asked_s:
            self._keepalive.agree(asked_s)
        if not self._subscribing.ask(client):
            self._become_ready()

    def _subscribed(self, client: Client, _data: Any, mid: int, reason_codes: Any, _properties: Any) -> None:
        if not self._subscribing.answers(mid):
            return
        refusal = self._subscribing.refusal(reason_codes)
        if not refusal:
            self._become_ready()
            return
        self._note("refused", refusal)
        connection = client.socket()
        if connection is not None:
            connection.shutdown(socket.SHUT_RDWR)

    def _become_ready(self) -> None:
        self._served = True
        self._on_ready()

    def _unsubscribed(
        self, _client: Client, _data: Any, mid: int, reason_codes: Any, _properties: Any
    ) -> None:
        self._subscribing.left(mid, reason_codes)

    def _received(self, client: Client, _data: Any, message: MQTTMessage) -> None:
        mid, qos = message.mid, message.qos
        manual = self._options.manual_ack
        incoming: IncomingMessage | None = None
        try:
            incoming = incoming_message(message, self.acknowledge if manual else None)
            self._on_message(incoming)
        except Exception:
            # Acknowledged all the same: unacknowledged it would hold its place in the window for ever, and the one
            # who sent it sends it again when no receipt comes.
            logger.exception("a message of %d bytes could not be taken in", len(message.payload))
            if manual and incoming is not None:
                incoming.acknowledge()
                return
            client.ack(mid, qos)
            return
        if not manual:
            client.ack(mid, qos)

    def _acknowledged(self, _client: Client, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        self.window.acknowledge(mid, reason, time.monotonic())

    def _disconnected(self, _client: Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if self._stop.is_set():
            return
        broker = self._options.broker
        if not self._accepted:
            self._note("unanswered", reasons.silence(broker))
        elif flags.is_disconnect_packet_from_server:
            self.taken_over = int(reason.value) == reasons.SESSION_TAKEN_OVER
            self._note("lost", reasons.refusal(broker, int(reason.value), str(reason)))
        else:
            self._note("lost", f"the connection to {reasons.address(broker)} was lost: connecting anew")


def _events(ready: list[tuple[selectors.SelectorKey, int]], connection: Any) -> int:
    for key, events in ready:
        if key.fileobj is connection:
            return events
    return 0
