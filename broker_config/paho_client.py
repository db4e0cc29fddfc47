"""The paho client of one connection: made from the settings, and connected."""

import contextlib
import logging
import os
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker_config.codec import MAX_FRAME_BYTES
from broker_config.credentials import password, tls_context
from broker_config.delivery import Publication
from broker_config.packets import publish_properties
from broker_config.settings import BrokerSettings
from broker_config.traffic import Subscription

logger = logging.getLogger(__name__)

_MAX_RECEIVED_BYTES = MAX_FRAME_BYTES + 65_536
_UNSENT_BYTES = 131_072
"""How much may wait in the kernel: a ping or an acknowledgement never waits behind more than this on a slow line."""


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

    @property
    def v5(self) -> bool:
        """Whether to speak MQTT 5."""
        return self.broker.protocol == "5"


class TolerantClient(Client):  # type: ignore[misc]
    """Takes a message whose MQTT 5 properties break the standard without them, instead of ending the connection.

    Brokers pass such properties on unread (a Payload Format Indicator of 7, for one), and the library raises over them
    before anybody can acknowledge: a kept session would be sent the same message at once again, for ever, and a retained
    one would keep out everybody who subscribes to its topic.
    """

    def _handle_publish(self) -> MQTTErrorCode:
        try:
            return super()._handle_publish()
        except Exception:  # noqa: BLE001 - whatever it trips over; our own handler lets nothing out
            message = _without_properties(self._in_packet["command"], bytes(self._in_packet["packet"]))
            if message is None:
                return MQTTErrorCode.MQTT_ERR_PROTOCOL
            logger.warning(
                "a message of %d bytes came with properties that break MQTT 5: taken without them",
                len(message.payload),
            )
            self._handle_on_message(message)
            return MQTTErrorCode.MQTT_ERR_SUCCESS


def _without_properties(command: int, packet: bytes) -> MQTTMessage | None:
    """Read a PUBLISH (MQTT 5, section 3.3), passing over its properties; none if its own lengths do not fit."""
    qos = (command >> 1) & 3
    position = 2 + int.from_bytes(packet[:2], "big")
    topic = packet[2:position]
    mid = int.from_bytes(packet[position : position + 2], "big") if qos else 0
    position += 2 if qos else 0
    length = shift = 0
    while position < len(packet):
        byte = packet[position]
        length |= (byte & 0x7F) << shift
        shift += 7
        position += 1
        if not byte & 0x80:
            break
    if position + length > len(packet):
        return None
    message = MQTTMessage(mid=mid, topic=topic)
    message.dup, message.qos, message.retain = bool(command & 8), qos, bool(command & 1)
    message.payload = packet[position + length :]
    return message


def new_client(options: LinkOptions) -> Client:
    """Return a client that never reconnects, queues or resends by itself.

    Raises:
        OSError: If a certificate or the password file cannot be read.
    """
    broker = options.broker
    client = TolerantClient(
        CallbackAPIVersion.VERSION2,
        client_id=options.client_id,
        clean_session=None if options.v5 else options.clean_start,
        protocol=MQTTProtocolVersion.MQTTv5 if options.v5 else MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,
        manual_ack=True,
    )
    # The window is kept by the link, so that paho sends at once whatever it is given. To be set before connecting.
    client.max_inflight_messages_set(65_535)
    client.connect_timeout = broker.connect_timeout_s
    # With this callback set, paho leaves all writing to the link's loop.
    client.on_socket_register_write = _ignore
    if broker.tls is not None:
        client.tls_set_context(tls_context(broker))
    if broker.username is not None or broker.password_file is not None or broker.password is not None:
        client.username_pw_set(broker.username, password(broker))
    will = options.will
    if will is not None:
        properties = publish_properties(will, PacketTypes.WILLMESSAGE) if options.v5 else None
        client.will_set(will.topic, will.payload, will.qos, will.retain, properties)
    return client


def open_connection(client: Client, options: LinkOptions) -> None:
    """Connect, and queue CONNECT.

    Raises:
        Exception: Whatever the resolver, the socket or TLS raises.
    """
    broker = options.broker
    where = (broker.host, broker.port, broker.keepalive_s)
    if options.v5:
        client.connect(*where, clean_start=options.clean_start, properties=_connect_properties(options))
    else:
        client.connect(*where)
    connection: socket.socket = client.socket()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)


def _connect_properties(options: LinkOptions) -> Properties:
    properties = Properties(PacketTypes.CONNECT)
    # A session that starts clean has no use for being kept, and a kept one hoards messages at the broker.
    properties.SessionExpiryInterval = 0 if options.clean_start else options.broker.session_expiry_s
    properties.MaximumPacketSize = _MAX_RECEIVED_BYTES
    if options.receive_maximum is not None:
        properties.ReceiveMaximum = options.receive_maximum
    return properties


def subscribe(client: Client, subscriptions: Sequence[Subscription], *, v5: bool) -> int | None:
    """Send one SUBSCRIBE for all of them; return its packet identifier."""
    wanted = [
        (
            one.topic_filter,
            SubscribeOptions(qos=one.qos, noLocal=one.no_local, retainAsPublished=one.retain_as_published)
            if v5
            else one.qos,
        )
        for one in subscriptions
    ]
    _, mid = client.subscribe(wanted)
    return mid  # type: ignore[no-any-return]


def ping(client: Client) -> bool:
    """Queue a PINGREQ.

    The library's public way to one is `loop_misc`, its own keep-alive, which judges by other rules than ours
    (`broker_config.keepalive`) and is never run.
    """
    return bool(client._send_pingreq() == MQTTErrorCode.MQTT_ERR_SUCCESS)  # noqa: SLF001 - see above


def hang_up_politely(client: Client, deadline: float) -> None:
    """Send DISCONNECT and wait until the broker has read everything, so that the next connection cannot overtake it.

    Args:
        client: A connected client.
        deadline: `time.monotonic` until which to wait.
    """
    connection: socket.socket = client.socket()
    # paho closes its socket the moment DISCONNECT is written; a second handle keeps the connection open until the
    # broker has closed its end.
    with socket.socket(fileno=os.dup(connection.fileno())) as handle:
        client.disconnect()
        with selectors.DefaultSelector() as selector:
            selector.register(handle, selectors.EVENT_WRITE)
            while client.socket() is not None and client.want_write() and time.monotonic() < deadline:
                selector.select(0.1)
                client.loop_write()
        handle.setblocking(True)
        handle.settimeout(max(0.05, deadline - time.monotonic()))
        with contextlib.suppress(OSError):
            handle.shutdown(socket.SHUT_WR)
            while handle.recv(65_536) and time.monotonic() < deadline:
                pass
    if client.socket() is not None:
        connection.close()


def _ignore(*_: object) -> None:
    """Do nothing."""
