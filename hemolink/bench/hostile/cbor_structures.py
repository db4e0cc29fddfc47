"""CBOR that a decoder may stumble over (RFC 8949), on the topic of frames."""

import struct
from collections.abc import Callable
from random import Random
from typing import Any

import cbor2

from hemolink.bench.hostile import honest
from hemolink.bench.hostile.shot import PAYLOAD_MARK, Shot

FAMILY = "CBOR structure"


class _Raw(bytes):
    """Bytes that are CBOR already."""

    __slots__ = ()


def _head(major: int, argument: int) -> bytes:
    if argument < 24:  # noqa: PLR2004 - it fits into the first byte (RFC 8949, section 3)
        return bytes([major << 5 | argument])
    for info, (form, limit) in enumerate((("B", 8), ("H", 16), ("I", 32), ("Q", 64)), start=24):
        if argument < 1 << limit:
            return bytes([major << 5 | info]) + struct.pack(f">{form}", argument)
    raise ValueError("an argument beyond 64 bits")


def _item(value: Any) -> bytes:
    return bytes(value) if isinstance(value, _Raw) else cbor2.dumps(value)


def _map(pairs: list[tuple[Any, Any]], *, count: int | None = None) -> bytes:
    """Encode a map pair by pair, so that keys may repeat and the count may lie."""
    body = b"".join(_item(key) + _item(value) for key, value in pairs)
    return _head(5, len(pairs) if count is None else count) + body


def _pairs(random: Random) -> list[tuple[Any, Any]]:
    return list(honest.fields("frame", random).items())


def _with(random: Random, key: str, value: Any) -> bytes:
    """A valid frame but for one value."""
    return _map([(name, value if name == key else given) for name, given in _pairs(random)])


def _indefinite(random: Random) -> bytes:
    return b"\xbf" + b"".join(_item(key) + _item(value) for key, value in _pairs(random)) + b"\xff"


def _chunked(image: bytes) -> _Raw:
    return _Raw(b"\x5f" + b"".join(_item(image[i : i + 16]) for i in range(0, len(image), 16)) + b"\xff")


TEXT = PAYLOAD_MARK.encode()
STRUCTURES: dict[str, Callable[[Random], bytes]] = {
    "indefinite map": _indefinite,
    "map never ended": lambda random: _indefinite(random)[:-1],
    "image in chunks": lambda random: _with(random, "image", _chunked(honest.tiny_image(random))),
    "text in chunks": lambda random: _with(random, "case", _Raw(b"\x7f\x61H\x61-\x611\xff")),
    "chunks of chunks": lambda random: _with(random, "image", _Raw(b"\x5f\x5f\x41a\xff\xff")),
    "a lone break": lambda _: b"\xff",
    "length of 2**60": lambda random: _with(random, "image", _Raw(_head(2, 1 << 60))),
    "length of 2**64-1": lambda random: _with(random, "case", _Raw(_head(3, (1 << 64) - 1))),
    "array of 2**62 items": lambda _: _map([("quality", _Raw(_head(4, 1 << 62)))]),
    "map of 2**32 pairs": lambda random: _map(_pairs(random), count=1 << 32),
    "more pairs than there are": lambda random: _map(_pairs(random), count=40),
    "fewer pairs than there are": lambda random: _map(_pairs(random), count=3),
    "nested 5,000 arrays deep": lambda random: _with(random, "quality", _Raw(b"\x81" * 5000 + b"\0")),
    "nested 5,000 maps deep": lambda random: _with(random, "quality", _Raw(b"\xa1\x61a" * 5000 + b"\0")),
    "nested 5,000 tags deep": lambda random: _with(random, "quality", _Raw(b"\xc1" * 5000 + b"\0")),
    "60,000 empty items": lambda random: _with(random, "quality", _Raw(_head(4, 60_000) + b"\xa0" * 60_000)),
    "60,000 flags": lambda random: _with(random, "quality", {"flags": ["x"] * 60_000}),
    "a key twice": lambda random: _map([*_pairs(random), ("case", "H-other")]),
    "frame_id twice": lambda random: _map([("frame_id", "0" * 32), *_pairs(random)]),
    "keys that are numbers": lambda random: _map([*_pairs(random), (7, 7)]),
    "keys that are arrays": lambda random: _map([*_pairs(random), (_Raw(b"\x81\x01"), 7)]),
    "a key of null": lambda random: _map([*_pairs(random), (None, None)]),
    "a key of 100 kB": lambda random: _map([*_pairs(random), (PAYLOAD_MARK * 10_000, 1)]),
    "a key that is not UTF-8": lambda random: _map([*_pairs(random), (_Raw(b"\x63\xff\xfe\xfd"), 1)]),
    "text that is not UTF-8": lambda random: _with(random, "case", _Raw(_head(3, 4) + b"H\xff\xfe\xfd")),
    "text with a surrogate": lambda random: _with(random, "case", _Raw(_head(3, 3) + b"\xed\xa0\x80")),
    "text overlong encoded": lambda random: _with(random, "case", _Raw(_head(3, 2) + b"\xc0\xaf")),
    "bignum": lambda random: _with(random, "sequence", 1 << 4096),
    "negative bignum": lambda random: _with(random, "sequence", -(1 << 4096)),
    "integer of 2**64-1": lambda random: _with(random, "sequence", (1 << 64) - 1),
    "date tag": lambda random: _with(random, "captured_at", _Raw(b"\xc0\x74" + b"2026-01-01T00:00:00Z")),
    "epoch tag": lambda random: _with(random, "captured_at", _Raw(b"\xc1\xfb\x7f\xef" + b"\xff" * 6)),
    "decimal tag of a huge exponent": lambda random: _with(
        random, "focus_um", _Raw(b"\xc4\x82\x1b" + b"\x7f" * 8 + b"\x01")
    ),
    "regular expression tag": lambda random: _with(random, "case", _Raw(b"\xd8\x23\x66(a+)+$")),
    "shared value that holds itself": lambda _: b"\xd8\x1c\x81\xd8\x1d\x00",
    "string references": lambda random: b"\xd9\x01\x00" + cbor2.dumps(honest.fields("frame", random)),
    "self-described": lambda random: b"\xd9\xd9\xf7" + cbor2.dumps(honest.fields("frame", random)),
    "CBOR in CBOR": lambda random: b"\xd8\x18" + cbor2.dumps(cbor2.dumps(honest.fields("frame", random))),
    "undefined": lambda random: _with(random, "case", _Raw(b"\xf7")),
    "an unassigned simple value": lambda random: _with(random, "case", _Raw(b"\xf8\x63")),
    "a reserved length": lambda random: _with(random, "case", _Raw(b"\x7c")),
    "NaN": lambda random: _with(random, "exposure_ms", float("nan")),
    "a half-precision NaN": lambda random: _with(random, "pixel_size_um", _Raw(b"\xf9\x7e\x00")),
    "Infinity": lambda random: _with(random, "focus_um", float("inf")),
    "minus Infinity in the quality": lambda random: _with(random, "quality", {"focus": float("-inf")}),
    "bytes after the end": lambda random: cbor2.dumps(honest.fields("frame", random)) + TEXT,
    "an array": lambda random: cbor2.dumps(list(honest.fields("frame", random).values())),
    "a number": lambda _: b"\x07",
    "a text": lambda _: cbor2.dumps(PAYLOAD_MARK),
    "null": lambda _: b"\xf6",
    "an empty map": lambda _: b"\xa0",
    "JSON": lambda _: b'{"frame_id": "' + TEXT + b'"}',
    "the image as text": lambda random: _with(random, "image", PAYLOAD_MARK * 20),
    "texts as bytes": lambda random: _with(random, "case", b"H-1"),
}


def shoot(random: Random) -> Shot:
    """Return a frame of one such structure."""
    name = random.choice(list(STRUCTURES))
    return Shot(FAMILY, name, honest.topic("frame"), STRUCTURES[name](random))
