"""Odd MQTT packets: flags, qualities of service and properties that an honest client does not send.

Those that break the protocol are marked so: the broker must end that connection, and nobody behind it may notice.
"""

import struct
from collections.abc import Callable
from random import Random
from typing import Any

from hemolink.bench.hostile import damaged, honest, mqtt
from hemolink.bench.hostile.shot import DEVICE, PAYLOAD_MARK, ROOT, SITE, Shot

FAMILY = "MQTT packets"
BASE = f"{ROOT}/v1/{SITE}/{DEVICE}"

_FORMAT, _EXPIRY, _TYPE, _RESPONSE, _CORRELATION, _SUBSCRIPTION, _ALIAS, _USER = 1, 2, 3, 8, 9, 11, 35, 38


def _property(number: int, content: bytes) -> bytes:
    return bytes([number]) + content


def _user(name: str | bytes, value: str | bytes) -> bytes:
    return _property(_USER, mqtt.text(name) + mqtt.text(value))


ODD: dict[str, bytes] = {
    "content type text/html": _property(_TYPE, mqtt.text("text/html")),
    "content type of the other form": _property(_TYPE, mqtt.text("application/json")),
    "content type of 60,000 characters": _property(_TYPE, mqtt.text("a" * 60_000)),
    "an empty content type": _property(_TYPE, mqtt.text("")),
    "a format of text": _property(_FORMAT, b"\1"),
    "correlation data of 60,000 bytes": _property(_CORRELATION, mqtt.text(bytes(60_000))),
    "correlation data that is a path": _property(_CORRELATION, mqtt.text(b"../../etc/passwd")),
    "correlation data of 32 other digits": _property(_CORRELATION, mqtt.text(b"0123456789abcdef" * 2)),
    "empty correlation data": _property(_CORRELATION, mqtt.text(b"")),
    "an empty response topic": _property(_RESPONSE, mqtt.text("")),
    "the response to the broker": _property(_RESPONSE, mqtt.text("$SYS/broker/clients")),
    "the response to another device": _property(_RESPONSE, mqtt.text(f"{ROOT}/v1/{SITE}/scope-9/receipt")),
    "the response to the frames": _property(_RESPONSE, mqtt.text(f"{BASE}/frame/stat")),
    "the response of 60,000 characters": _property(_RESPONSE, mqtt.text("a" * 60_000)),
    "1,000 user properties": _user(PAYLOAD_MARK, "x") * 1000,
    "a user property of 60,000 characters": _user("a" * 60_000, "b" * 60_000),
    "one user property again and again": _user("schema", "frame/99") * 20,
    "an empty user property": _user("", ""),
    "hostile user property": _user("<script>", f"%s%n{PAYLOAD_MARK}"),
    "an expiry of 136 years": _property(_EXPIRY, struct.pack(">I", 2**32 - 1)),
}
"""Properties that the broker lets through."""

BROKEN: dict[str, bytes] = {
    "an unknown property": _property(99, b"\0"),
    "a property twice": _property(_TYPE, mqtt.text("a")) * 2,
    "a property cut short": _property(_TYPE, b"\x00\xffab"),
    "a format that is none": _property(_FORMAT, b"\7"),
    "a content type that is not UTF-8": _property(_TYPE, mqtt.text(b"\xff\xfe")),
    "a content type with a NUL": _property(_TYPE, mqtt.text("a\0b")),
    "a response topic with a wildcard": _property(_RESPONSE, mqtt.text("a/#")),
    "a subscription identifier": _property(_SUBSCRIPTION, b"\1"),
    "a topic alias of 0": _property(_ALIAS, b"\0\0"),
    "a topic alias beyond the limit": _property(_ALIAS, b"\xff\xff"),
}
"""Properties that break the protocol."""

BROKEN_TOPICS: dict[str, bytes] = {
    "an empty topic": b"",
    "a wildcard": f"{BASE}/frame/+".encode(),
    "a wildcard for all": f"{ROOT}/#".encode(),
    "a topic that is not UTF-8": BASE.encode() + b"/\xff\xfe/state",
    "a topic with a NUL": f"{BASE}/\0/state".encode(),
    "a topic with control characters": f"{ROOT}/v1/{SITE}/\x1b[31m/state".encode(),
    "a topic with a line break": f"{ROOT}/v1/{SITE}/a\nb/state".encode(),
    "a topic with a surrogate": BASE.encode() + b"/\xed\xa0\x80/state",
    "a topic of 1,000 levels": b"/".join([b"a"] * 1000),
}
"""Topics that break the protocol, or that Mosquitto refuses."""


def _base(random: Random) -> Shot:
    """A message to put odd packets around: half of them honest but strange, half damaged."""
    if random.random() < 0.5:  # noqa: PLR2004 - a coin
        return damaged.shoot(random)
    kind = random.choice(["frame", "diagnosis", "receipt", "rejected", "state"])
    return Shot(
        FAMILY, kind, honest.topic(kind, device=DEVICE), honest.encode(kind, honest.fields(kind, random))
    )


def _flags(random: Random) -> Shot:
    ways: list[tuple[str, dict[str, Any]]] = [
        ("QoS 0", {"qos": 0}),
        ("QoS 2", {"qos": 2}),
        ("sent as a duplicate", {"duplicate": True}),
        ("QoS 2, sent as a duplicate", {"qos": 2, "duplicate": True}),
    ]
    name, changes = random.choice(ways)
    base = _base(random)
    return base.but(family=FAMILY, name=f"{name}: {base.name}", **changes)


def _odd(random: Random) -> Shot:
    name = random.choice(list(ODD))
    return _base(random).but(family=FAMILY, name=name, properties=ODD[name])


def _answer_elsewhere(random: Random) -> Shot:
    """A stale order whose answer is wanted on a topic where it would do harm."""
    name = random.choice([one for one in ODD if "response" in one])
    content = honest.fields("command", random) | {"at": "2000-01-01T00:00:00Z"}
    payload = honest.encode("command", content)
    return Shot(FAMILY, f"an order, {name}", honest.topic("command"), payload, properties=ODD[name])


def _broken(random: Random) -> Shot:
    name = random.choice(list(BROKEN))
    return _base(random).but(family=FAMILY, name=name, properties=BROKEN[name], breaks=True)


def _broken_topic(random: Random) -> Shot:
    name = random.choice(list(BROKEN_TOPICS))
    return _base(random).but(family=FAMILY, name=name, topic=BROKEN_TOPICS[name], breaks=True)


def _impossible_quality(random: Random) -> Shot:
    return _base(random).but(family=FAMILY, name="QoS 3", qos=3, breaks=True)


_WAYS: dict[Callable[[Random], Shot], int] = {
    _flags: 4,
    _odd: 5,
    _answer_elsewhere: 1,
    _broken: 1,
    _broken_topic: 1,
    _impossible_quality: 1,
}


def shoot(random: Random) -> Shot:
    """Return one such message."""
    return random.choices(list(_WAYS), list(_WAYS.values()))[0](random)
