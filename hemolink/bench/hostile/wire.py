"""Raw bytes at a broker's port: packets that are none, half packets, packets that lie, slow senders, other protocols.

For the embedded broker, which is ours to answer for (MQTT 3.1.1).
"""

import contextlib
import socket
import struct
import time
from collections.abc import Callable
from random import Random

from hemolink.bench.hostile import mqtt

Bytes = Callable[[Random], bytes]


def _hello(random: Random) -> bytes:
    return mqtt.connect(f"stranger-{random.getrandbits(32):x}", level=4)


def _connect(*, name: str = "MQTT", level: int = 4, flags: int = 2, rest: bytes = b"\0\1x") -> bytes:
    return mqtt.packet(0x10, mqtt.text(name) + bytes([level, flags]) + b"\0\x3c" + rest)


def _publish(topic: bytes, *, head: int = 0x32, number: int = 1) -> bytes:
    return mqtt.packet(head, mqtt.text(topic) + (struct.pack(">H", number) if head & 6 else b"") + b"payload")


FIRST: dict[str, Bytes] = {
    "nothing": lambda _: b"",
    "random bytes": lambda random: random.randbytes(random.randint(1, 2000)),
    "one byte": lambda random: random.randbytes(1),
    "zeros": lambda _: bytes(1000),
    "half a CONNECT": lambda random: (whole := _hello(random))[: random.randrange(1, len(whole))],
    "HTTP": lambda _: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": lambda random: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + random.randbytes(200),
    "SSH": lambda _: b"SSH-2.0-OpenSSH_9.6\r\n",
    "a length of five bytes": lambda _: b"\x10\xff\xff\xff\xff\x7f",
    "a length of 256 MB": lambda random: b"\x10\xff\xff\xff\x7f" + random.randbytes(50),
    "a length of 0": lambda _: b"\x10\0",
    "another protocol's name": lambda _: _connect(name="AMQP"),
    "a name of 65,535 characters": lambda _: b"\x10\xff\xff\x03\xff\xffMQTT",
    "an empty name": lambda _: _connect(name=""),
    "level 0": lambda _: _connect(level=0),
    "level 3": lambda _: _connect(level=3),
    "level 5": lambda _: _connect(level=5, rest=b"\0\0\1x"),
    "level 255": lambda _: _connect(level=255),
    "the reserved flag": lambda _: _connect(flags=3),
    "a will that is not there": lambda _: _connect(flags=6),
    "a will of QoS 3": lambda _: _connect(flags=0x1E, rest=b"\0\1x\0\1w\0\1m"),
    "a password without a user": lambda _: _connect(flags=0x42, rest=b"\0\1x\0\1p"),
    "a user that is not there": lambda _: _connect(flags=0x82),
    "a client id beyond the end": lambda _: _connect(rest=b"\xff\xffx"),
    "a client id that is not UTF-8": lambda _: _connect(rest=b"\0\2\xff\xfe"),
    "a client id of control characters": lambda _: _connect(rest=b"\0\4\x1b[31"),
    "an empty client id": lambda _: _connect(rest=b"\0\0"),
    "an empty client id, session kept": lambda _: _connect(flags=0, rest=b"\0\0"),
    "PUBLISH first": lambda _: _publish(b"a"),
    "PINGREQ first": lambda _: b"\xc0\0",
    "CONNACK first": lambda _: b"\x20\2\0\0",
}
"""What comes instead of a CONNECT."""

AFTER: dict[str, Bytes] = {
    "a second CONNECT": _hello,
    "CONNACK from a client": lambda _: b"\x20\2\0\0",
    "type 0": lambda _: b"\0\0",
    "type 15": lambda _: b"\xf0\0",
    "a topic with a wildcard": lambda _: _publish(b"a/#"),
    "an empty topic": lambda _: _publish(b""),
    "a topic that is not UTF-8": lambda _: _publish(b"\xff\xfe"),
    "a topic with a NUL": lambda _: _publish(b"a\0b"),
    "a topic of 65,535 bytes": lambda _: _publish(b"a" * 65_535),
    "a topic beyond the end": lambda _: b"\x32\x06\xff\xffabcd",
    "20,000 levels": lambda _: _publish(b"/" * 20_000),
    "the broker's own topics": lambda _: _publish(b"$SYS/broker/version"),
    "QoS 3": lambda _: _publish(b"a", head=0x36),
    "packet id 0": lambda _: _publish(b"a", number=0),
    "QoS 2 without an end": lambda _: _publish(b"a", head=0x34),
    "QoS 0 with the dup flag": lambda _: _publish(b"a", head=0x38),
    "an empty PUBLISH": lambda _: b"\x32\0",
    "PUBACK of nothing": lambda _: b"\x40\2\x12\x34",
    "PUBACK cut short": lambda _: b"\x40\1\x12",
    "PUBREC of nothing": lambda _: b"\x50\2\x12\x34",
    "PUBREL of nothing": lambda _: b"\x62\2\x12\x34",
    "PUBREL of wrong flags": lambda _: b"\x60\2\x12\x34",
    "PUBCOMP of nothing": lambda _: b"\x70\2\x12\x34",
    "SUBSCRIBE to nothing": lambda _: b"\x82\2\0\1",
    "SUBSCRIBE of wrong flags": lambda _: b"\x80\6\0\1\0\1a\1",
    "SUBSCRIBE at QoS 3": lambda _: b"\x82\6\0\1\0\1a\3",
    "SUBSCRIBE to a bad filter": lambda _: mqtt.packet(0x82, b"\0\1" + mqtt.text("a/#/b") + b"\1"),
    "SUBSCRIBE to an empty filter": lambda _: b"\x82\5\0\1\0\0\1",
    "SUBSCRIBE to a shared filter": lambda _: mqtt.packet(0x82, b"\0\1" + mqtt.text("$share//#") + b"\1"),
    "SUBSCRIBE to 5,000 filters": lambda _: mqtt.packet(
        0x82, b"\0\1" + b"".join(mqtt.text(f"x/{number}") + b"\0" for number in range(5000))
    ),
    "UNSUBSCRIBE from nothing": lambda _: b"\xa2\2\0\1",
    "PINGREQ with a body": lambda _: b"\xc0\3abc",
    "DISCONNECT with a body": lambda _: b"\xe0\3abc",
    "PUBLISH after DISCONNECT": lambda _: b"\xe0\0" + _publish(b"a"),
    "a length of 256 MB": lambda random: b"\x32\xff\xff\xff\x7f" + random.randbytes(100),
    "half a PUBLISH": lambda random: (whole := _publish(b"a" * 50))[: random.randrange(1, len(whole))],
    "random bytes": lambda random: random.randbytes(random.randint(1, 2000)),
    "1,000 pings at once": lambda _: b"\xc0\0" * 1000,
    "200 small messages at once": lambda _: _publish(b"stranger/a", head=0x30) * 200,
}
"""What comes after a good CONNECT."""


class Vandal:
    """Sends such bytes, and leaves some connections open, to see what the broker makes of them.

    Args:
        port: The broker's port on the loopback.
        random: Chooses.
    """

    def __init__(self, port: int, random: Random) -> None:
        self._port = port
        self._random = random
        self._left_open: list[socket.socket] = []

    def strike(self) -> str:
        """Open one connection and misbehave on it; returns what was done."""
        random = self._random
        if random.random() < 0.5:  # noqa: PLR2004 - a coin
            name = random.choice(list(FIRST))
            data = FIRST[name](random)
        else:
            name = random.choice(list(AFTER))
            data = _hello(random) + AFTER[name](random)
        try:
            connection = socket.create_connection(("127.0.0.1", self._port), timeout=5)
        except OSError:
            return name  # the honest clients will tell
        try:
            self._send(connection, data)
            self._leave(connection)
        except OSError:  # the broker was faster
            connection.close()
        return name

    def close(self) -> None:
        """Hang up everywhere."""
        for connection in self._left_open:
            connection.close()

    def _send(self, connection: socket.socket, data: bytes) -> None:
        if self._random.random() >= 0.1:  # noqa: PLR2004 - one in ten comes byte by byte
            connection.sendall(data)
            return
        for byte in data[:60]:
            connection.sendall(bytes([byte]))
            time.sleep(0.001)

    def _leave(self, connection: socket.socket) -> None:
        """Hang up at once, abort, wait for an answer, or stay without a word."""
        manner = self._random.choice(["close", "abort", "listen", "stay"])
        if manner == "abort":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif manner == "listen":
            connection.settimeout(0.02)
            with contextlib.suppress(OSError):
                connection.recv(1000)
        elif manner == "stay":
            self._left_open.append(connection)
            if len(self._left_open) <= 60:  # noqa: PLR2004 - so many at a time
                return
            connection = self._left_open.pop(0)
        connection.close()
