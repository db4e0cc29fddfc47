"""MQTT 5 packets by hand, and a publisher that sends what no client library would."""

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from hemolink.bench.hostile.shot import Shot

CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, DISCONNECT = 2, 3, 4, 5, 6, 7, 9, 14
_WINDOW = 15
_PATIENCE_S = 20.0
_PING_S = 20.0
UNHEARD_TOPIC = b"hemolink/v1/-/mark/alone"


class BrokerHungUp(Exception):
    """Raised when the broker ends the attacker's connection."""


def variable_length(number: int) -> bytes:
    """Encode a Variable Byte Integer (MQTT 5, section 1.5.5)."""
    out = bytearray()
    while True:
        number, digit = divmod(number, 128)
        out.append(digit | 0x80 if number else digit)
        if not number:
            return bytes(out)


def text(content: str | bytes) -> bytes:
    """Encode a UTF-8 string or binary data with its length."""
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return struct.pack(">H", len(data)) + data


def packet(head: int, body: bytes) -> bytes:
    """Put the fixed header before a packet's body."""
    return bytes([head]) + variable_length(len(body)) + body


def connect(client_id: str, *, level: int = 5, keepalive_s: int = 60) -> bytes:
    """Return a CONNECT that starts clean."""
    properties = b"\0" if level >= 5 else b""  # noqa: PLR2004 - MQTT 5
    return packet(
        0x10, text("MQTT") + bytes([level, 2]) + struct.pack(">H", keepalive_s) + properties + text(client_id)
    )


def publish(shot: Shot, number: int) -> bytes:
    """Return the PUBLISH of a shot."""
    head = PUBLISH << 4 | (8 if shot.duplicate else 0) | shot.qos << 1 | (1 if shot.retain else 0)
    body = text(shot.topic) + (struct.pack(">H", number) if shot.qos else b"")
    return packet(head, body + variable_length(len(shot.properties)) + shot.properties + shot.payload)


class BrokerSilent(BrokerHungUp):
    """Raised when nothing came from the broker in time."""


class Connection:
    """A connection of MQTT 5 without a library, which no message can upset.

    Args:
        port: The broker's port on the loopback.
        client_id: Client id.
    """

    def __init__(self, port: int, client_id: str) -> None:
        self._port = port
        self._client_id = client_id
        self._socket: socket.socket | None = None
        self._received = bytearray()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Connect.

        Raises:
            BrokerHungUp: If the broker does not accept.
        """
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=_PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send(connect(self._client_id))
        kind, _, body = self.receive()
        if kind != CONNACK or body[1]:
            raise BrokerHungUp(f"the broker answered CONNECT with {body.hex()}")

    def close(self) -> None:
        """Hang up; whoever receives meanwhile is told."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes.

        Raises:
            BrokerHungUp: If the broker has ended the connection.
        """
        assert self._socket is not None  # noqa: S101 - open() came first
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise BrokerHungUp(f"the broker ended the connection ({error})") from None

    def receive(self, timeout_s: float = _PATIENCE_S) -> tuple[int, int, bytes]:
        """Return the next packet: type, flags and body.

        Raises:
            BrokerHungUp: If the connection ends, or nothing comes in time.
        """
        assert self._socket is not None  # noqa: S101 - open() came first
        deadline = time.monotonic() + timeout_s
        while (found := _first_packet(self._received)) is None:
            try:
                ready, _, _ = select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))
                piece = self._socket.recv(262_144) if ready else b""
            except (OSError, ValueError):  # closed, here or there
                ready, piece = [self._socket], b""
            if not ready:
                raise BrokerSilent(f"the broker has said nothing for {timeout_s:g} s")
            if not piece:
                raise BrokerHungUp("the broker ended the connection")
            self._received += piece
        head, body, length = found
        del self._received[:length]
        return head >> 4, head & 15, body


class Publisher(Connection):
    """Sends what no client library would."""

    def __init__(self, port: int, client_id: str) -> None:
        super().__init__(port, client_id)
        self._waiting: set[int] = set()
        self._number = 0

    def fire(self, shots: Sequence[Shot]) -> None:
        """Publish all, and return when the broker has acknowledged each of QoS 1 and 2.

        Raises:
            BrokerHungUp: If the broker ends the connection meanwhile.
        """
        for shot in shots:
            while len(self._waiting) >= _WINDOW:
                self._hear()
            number = 0
            if shot.qos:
                self._number = number = self._number % 65_535 + 1
                self._waiting.add(number)
            self.send(publish(shot, number))
        while self._waiting:
            self._hear()

    def alone(self, shot: Shot) -> bool:
        """Publish one message that the broker may refuse, on a connection of its own.

        Returns:
            Whether the broker took it.
        """
        with Publisher(self._port, f"{self._client_id}-alone") as other:
            try:
                other.fire([shot])
                # Of QoS 0 there is no answer: the next one's shows whether the connection outlived it.
                other.fire([Shot("", "", UNHEARD_TOPIC, b"")])
            except BrokerHungUp:
                return False
        return True

    def _hear(self) -> None:
        kind, _, body = self.receive()
        if kind == DISCONNECT:
            raise BrokerHungUp(f"the broker disconnected with reason 0x{body[0] if body else 0:02x}")
        if kind not in (PUBACK, PUBREC, PUBCOMP):
            return
        (number,) = struct.unpack_from(">H", body)
        refused = len(body) > 2 and body[2] >= 0x80  # noqa: PLR2004 - a reason code of failure
        if kind == PUBREC and not refused:
            self.send(packet(0x62, body[:2]))
        else:
            self._waiting.discard(number)


class Listener(Connection):
    """Subscribes to everything below a root, and acknowledges whatever comes, readable or not.

    Args:
        port: The broker's port.
        client_id: Client id.
        take: Told of each message's topic and payload, on this listener's thread.
    """

    def __init__(self, port: int, client_id: str, *, take: Callable[[str, bytes], None]) -> None:
        super().__init__(port, client_id)
        self._take = take
        self._thread = threading.Thread(target=self._run, name=client_id, daemon=True)

    def subscribe(self, topic_filter: str) -> None:
        """Subscribe at QoS 1, and listen from now on.

        Raises:
            BrokerHungUp: If the broker does not confirm it.
        """
        self.send(packet(0x82, b"\0\1\0" + text(topic_filter) + b"\1"))
        while self.receive()[0] != SUBACK:
            pass
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(BrokerHungUp):
            while True:
                try:
                    kind, flags, body = self.receive(_PING_S)
                except BrokerSilent:
                    self.send(packet(0xC0, b""))
                    continue
                if kind == PUBLISH:
                    self._hear(flags, body)

    def _hear(self, flags: int, body: bytes) -> None:
        (length,) = struct.unpack_from(">H", body)
        topic, place = body[2 : 2 + length].decode("utf-8", "replace"), 2 + length
        if flags & 0x06:
            self.send(packet(0x40, body[place : place + 2]))
            place += 2
        properties, place = read_variable_length(body, place)
        self._take(topic, body[place + properties :])


def read_variable_length(data: bytes, place: int) -> tuple[int, int]:
    """Decode a Variable Byte Integer; returns it and the place behind it."""
    number = shift = 0
    while True:
        number |= (data[place] & 0x7F) << shift
        place += 1
        if not data[place - 1] & 0x80:
            return number, place
        shift += 7


def _first_packet(data: bytearray) -> tuple[int, bytes, int] | None:
    """Return the first whole packet's head, body and length, if it is there."""
    length = 0
    for place in range(1, min(5, len(data))):
        length |= (data[place] & 0x7F) << 7 * (place - 1)
        if not data[place] & 0x80:
            end = place + 1 + length
            return (data[0], bytes(data[place + 1 : end]), end) if len(data) >= end else None
    return None
