"""Every field of every message: missing, null, of a wrong type, out of range, or hostile text."""

from random import Random
from typing import Any

from hemolink.bench.hostile import honest
from hemolink.bench.hostile.shot import MODEL_MARK, PAYLOAD_MARK, SCRIPTS, Shot

FAMILY = "fields"
MISSING = object()

TEXTS: dict[str, str] = {
    "empty": "",
    "a blank": " ",
    "control characters": f"a\x1b[31m\x07\x00{PAYLOAD_MARK}",
    "line breaks": f"a\r\n2026-01-01T00:00:00.000Z INFO forged: {PAYLOAD_MARK}",
    "C1 control characters": f"\x85\x9b31m{PAYLOAD_MARK}",
    "right-to-left override": f"\u202e{PAYLOAD_MARK}\u202c",
    "line separator": f"a\u2028{PAYLOAD_MARK}\u2029",
    "zero-width": f"H\u200b-\ufeff1{PAYLOAD_MARK}",
    "homoglyphs": f"sсope-1{PAYLOAD_MARK}",  # noqa: RUF001 - a Cyrillic letter is the point
    "combining marks": f"{PAYLOAD_MARK}" + "\u0301" * 300,
    "a lone surrogate": f"\ud800{PAYLOAD_MARK}",
    "beyond the basic plane": "\U0010ffff" + PAYLOAD_MARK,
    "path traversal": f"../../../../etc/{PAYLOAD_MARK}",
    "an absolute path": f"/etc/{PAYLOAD_MARK}",
    "a NUL in a path": f"{PAYLOAD_MARK}.png\0.sh",
    "SQL": f"'; DROP TABLE frames; -- {PAYLOAD_MARK}",
    "a pattern of SQL": "%_%" + PAYLOAD_MARK,
    "a template": f"{{{{ 7*7 }}}}{{% {PAYLOAD_MARK} %}}",
    "a format": f"%s%n%(x)s{{0.__class__}}{PAYLOAD_MARK}",
    "a lookup": f"${{jndi:ldap://127.0.0.1/{PAYLOAD_MARK}}}",
    "a wildcard": f"+/#/{PAYLOAD_MARK}",
    "the fleet's own level": "fleet",
    "a patient's name": f"Anna {PAYLOAD_MARK}, 1961-02-03",
    "41 characters": "H" + "a" * 40,
    "2,001 characters": PAYLOAD_MARK + "x" * 1991,
    "200,000 characters": PAYLOAD_MARK * 20_000,
    "upper case": PAYLOAD_MARK.upper(),
    "digits of another script": "٣" * 32 + PAYLOAD_MARK,
    **{f"script {number}": text for number, text in enumerate(SCRIPTS)},
}
NUMBERS: dict[str, float] = {
    "minus one": -1,
    "zero": 0,
    "2**31": 2**31,
    "2**53": 2**53,
    "2**63": 2**63,
    "2**64": 2**64,
    "10**400": 10**400,
    "minus 10**400": -(10**400),
    "a fraction": 0.5,
    "1e308": 1e308,
    "5e-324": 5e-324,
    "minus zero": -0.0,
    "NaN": float("nan"),
    "Infinity": float("inf"),
}
TIMES: dict[str, str] = {
    "the year 1": "0001-01-01T00:00:00Z",
    "the year 9999": "9999-12-31T23:59:59.999999Z",
    "before the year 1 in UTC": "0001-01-01T00:00:00+14:00",
    "after the year 9999 in UTC": "9999-12-31T23:59:59-14:00",
    "1970": "1970-01-01T00:00:00Z",
    "without a zone": "2026-01-01T00:00:00",
    "a zone of 99 hours": "2026-01-01T00:00:00+99:00",
    "the 30th of February": "2026-02-30T00:00:00Z",
    "a leap second": "2026-12-31T23:59:60Z",
    "hour 24": "2026-01-01T24:00:00Z",
    "seconds since 1970": "1767225600",
    "a number of 400 digits": "9" * 400,
    "a week date": "2026-W01-1",
    "the device's own clock reset": "2000-01-01T00:00:17Z",
}
TYPES: dict[str, Any] = {
    "null": None,
    "true": True,
    "a text": PAYLOAD_MARK,
    "a number": 7,
    "a number as text": "7",
    "an empty list": [],
    "a list": [PAYLOAD_MARK],
    "an empty object": {},
    "an object": {PAYLOAD_MARK: {PAYLOAD_MARK: [1]}},
    "a list of lists": [[[[[]]]]],
}
VERSIONS: dict[str, Any] = {
    "2": 2,
    "2**31": 2**31,
    "10**30": 10**30,
    "0": 0,
    "minus 1": -1,
    "text": PAYLOAD_MARK,
    "text 1": "1",
    "1.0": 1.0,
    "true": True,
    "null": None,
    "a list": [1],
    "NaN": float("nan"),
}


def paths(content: Any, *, prefix: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the path of every value in nested fields; of a list only its first."""
    found: list[tuple[str | int, ...]] = []
    inside = content.items() if isinstance(content, dict) else list(enumerate(content))[:1]
    for key, value in inside:
        found.append((*prefix, key))
        if isinstance(value, dict | list):
            found += paths(value, prefix=(*prefix, key))
    return found


def put(content: Any, path: tuple[str | int, ...], value: Any) -> None:
    """Set the value at a path, or remove it."""
    for key in path[:-1]:
        content = content[key]
    if value is not MISSING:
        content[path[-1]] = value
    elif isinstance(content, dict):
        content.pop(path[-1], None)
    else:
        del content[path[-1]]


def attack(random: Random, old: Any) -> tuple[str, Any]:
    """Return a hostile value in place of another, and its name."""
    tables: list[dict[str, Any]] = [TYPES, {"missing": MISSING}]
    if isinstance(old, str):
        tables += [TEXTS] * 3
        if old[:2] == "20" and "T" in old:
            tables += [TIMES] * 4
    elif isinstance(old, int | float):
        tables += [NUMBERS] * 3
    elif isinstance(old, bytes):
        tables += [{"empty bytes": b"", "one byte": b"\0", "text": PAYLOAD_MARK}]
    elif isinstance(old, dict):
        tables += [{f"a name of {name}": {text: 1} for name, text in TEXTS.items()}]
    table = random.choice(tables)
    name = random.choice(list(table))
    return name, table[name]


def shoot(random: Random) -> Shot:
    """Return a message of any type with one hostile field, or of a version that is none."""
    kind = honest.kind_of(random)
    content = honest.fields(kind, random)
    if random.random() < 0.1:  # noqa: PLR2004 - one in ten is of another version
        name = random.choice(list(VERSIONS))
        content["schema_version"] = VERSIONS[name]
        what = f"{kind}.schema_version: {name}"
    else:
        path = random.choice(paths(content))
        old: Any = content
        for key in path:
            old = old[key]
        name, value = attack(random, old)
        put(content, path, value)
        what = f"{kind}.{'.'.join(str(part) for part in path)}: {name}"
    payload = _encoded(kind, content)
    if kind == "fleet-model":  # a good one's name and version are logged, as they should be
        payload = payload.replace(PAYLOAD_MARK.encode(), MODEL_MARK.encode())
    return Shot(FAMILY, what, honest.topic(kind), payload)


def _encoded(kind: str, content: dict[str, Any]) -> bytes:
    try:
        return honest.encode(kind, content)
    except (UnicodeEncodeError, OverflowError):  # CBOR has no surrogates; as bytes they come near enough
        return honest.encode(kind, {key: _as_bytes(value) for key, value in content.items()})


def _as_bytes(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "surrogatepass")
        case dict():
            return {_as_bytes(key): _as_bytes(one) for key, one in value.items()}
        case list():
            return [_as_bytes(one) for one in value]
    return value
