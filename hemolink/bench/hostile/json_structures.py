"""JSON that a decoder may stumble over (RFC 8259), on the topic of every type but the frame."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

from hemolink.bench.hostile import honest
from hemolink.bench.hostile.shot import PAYLOAD_MARK, Shot

FAMILY = "JSON structure"

Fields = dict[str, Any]


def _dump(fields: Fields) -> str:
    return json.dumps(fields)


def _text_with(fields: Fields, raw: str) -> bytes:
    """The message with a further member whose value is written as ``raw``."""
    return f'{_dump(fields)[:-1]}, "extra": {raw}}}'.encode()


def _first_replaced(fields: Fields, raw: str) -> bytes:
    """The message with its first texts' value written as ``raw``."""
    key = next(name for name, value in fields.items() if isinstance(value, str))
    return _dump(fields | {key: 0}).replace(f'"{key}": 0', f'"{key}": {raw}').encode("utf-8", "surrogatepass")


STRUCTURES: dict[str, Callable[[Fields], bytes]] = {
    "NaN": lambda fields: _text_with(fields, "NaN"),
    "Infinity": lambda fields: _text_with(fields, "-Infinity"),
    "1e999": lambda fields: _text_with(fields, "1e999"),
    "an integer of 5,000 digits": lambda fields: _text_with(fields, "9" * 5000),
    "an integer of 400,000 digits": lambda fields: _text_with(fields, "9" * 400_000),
    "a fraction of 100,000 digits": lambda fields: _text_with(fields, "0." + "3" * 100_000),
    "a huge exponent": lambda fields: _text_with(fields, "1E400000000"),
    "a name twice": lambda fields: _text_with(fields, f'1, "extra": "{PAYLOAD_MARK}"'),
    "the version twice": lambda fields: _text_with(fields, '1, "schema_version": 1, "schema_version": 99'),
    "nested 200,000 arrays deep": lambda fields: _text_with(fields, "[" * 200_000 + "]" * 200_000),
    "nested arrays never closed": lambda fields: _text_with(fields, "[" * 200_000)[:-1],
    "nested 5,000 maps deep": lambda fields: _text_with(fields, '{"a":' * 5000 + "1" + "}" * 5000),
    "a byte-order mark": lambda fields: b"\xef\xbb\xbf" + _dump(fields).encode(),
    "UTF-16": lambda fields: _dump(fields).encode("utf-16"),
    "UTF-32 without a mark": lambda fields: _dump(fields).encode("utf-32-le"),
    "Latin-1": lambda fields: _text_with(fields, '"M\xfcller"').decode().encode("latin-1"),
    "overlong UTF-8": lambda fields: _dump(fields).encode() + b"\xc0\xaf",
    "a raw surrogate": lambda fields: _first_replaced(fields, '"\ud800"'),
    "an escaped lone surrogate": lambda fields: _first_replaced(fields, '"\\ud83d"'),
    "surrogates in the wrong order": lambda fields: _first_replaced(fields, '"\\udc00\\ud800"'),
    "an escaped NUL": lambda fields: _first_replaced(fields, '"\\u0000"'),
    "raw control characters": lambda fields: _first_replaced(fields, '"a\x1b[31m\r\nb"'),
    "a surrogate as a name": lambda fields: _text_with(fields, '1, "\\ud800": 1'),
    "a trailing comma": lambda fields: _text_with(fields, "1,"),
    "comments": lambda fields: _text_with(fields, "/* */ 1 // x\n"),
    "single quotes": lambda fields: _dump(fields).replace('"', "'").encode(),
    "an array": lambda fields: f"[{_dump(fields)}]".encode(),
    "a text that holds it": lambda fields: json.dumps(_dump(fields)).encode(),
    "a number": lambda _: b"7",
    "null": lambda _: b"null",
    "true": lambda _: b"true",
    "an empty object": lambda _: b"{}",
    "two objects": lambda fields: _dump(fields).encode() * 2,
    "one a line": lambda fields: (_dump(fields) + "\n" + _dump(fields)).encode(),
    "50,000 further names": lambda fields: _dump(fields | {f"k{i}": i for i in range(50_000)}).encode(),
    "a name of 500 kB": lambda fields: _dump(fields | {PAYLOAD_MARK * 50_000: 1}).encode(),
    "a text of 900 kB": lambda fields: _dump(fields | {"extra": PAYLOAD_MARK * 90_000}).encode(),
    "2 MB": lambda fields: _dump(fields | {"extra": PAYLOAD_MARK * 200_000}).encode(),
    "900 kB of blanks": lambda fields: b" " * 900_000 + _dump(fields).encode(),
    "an XML document": lambda _: (
        b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'
    ),
    "YAML": lambda _: b"!!python/object/apply:os.system ['true']\n",
    "a pickle": lambda _: b"cos\nsystem\n(S'true'\ntR.",
    "prototype names": lambda fields: _dump(fields | {"__proto__": {"x": 1}, "__class__": "x"}).encode(),
}
_HEAVY = frozenset(name for name in STRUCTURES if any(part in name for part in ("000", " kB", " MB")))


def shoot(random: Random) -> Shot:
    """Return a message of any type but the frame, of one such structure; the large ones come less often."""
    kind = "frame"
    while kind == "frame":
        kind = honest.kind_of(random)
    name = random.choice(list(STRUCTURES))
    if name in _HEAVY and random.random() < 0.85:  # noqa: PLR2004 - most of the large ones are drawn anew
        name = random.choice([one for one in STRUCTURES if one not in _HEAVY])
    return Shot(FAMILY, f"{kind}: {name}", honest.topic(kind), STRUCTURES[name](honest.fields(kind, random)))
