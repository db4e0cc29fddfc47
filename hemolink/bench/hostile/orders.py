"""Commands that an edge must not obey and receipts that it must not believe.

Without access rules a well-formed, fresh order cannot be told from an honest one, nor can a receipt that names a frame
of this edge; neither is sent here. What is sent is everything that can be told.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from hemolink.bench.hostile import honest
from hemolink.bench.hostile.fields import TEXTS
from hemolink.bench.hostile.shot import PAYLOAD_MARK, SCRIPTS, Shot, hexadecimal

FAMILY = "orders and receipts"
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
"""A case code that is one: such an order would be obeyed."""


def _order(what: str, content: dict[str, Any], *, verb: str | None = None, retain: bool = False) -> Shot:
    place = honest.topic("command", verb=verb or str(content["verb"]))
    return Shot(FAMILY, what, place, honest.encode("command", content), retain=retain)


def _command(random: Random, **changes: Any) -> dict[str, Any]:
    return honest.fields("command", random) | changes


def _at(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def _stale(random: Random) -> Shot:
    age = random.choice([-125, -3600, -10 * 365 * 86400, 125, 3600, 10 * 365 * 86400])
    verb = random.choice(["pause", "case-stop", "resume", "status"])
    return _order(f"{verb} of {age:+d} s", _command(random, verb=verb, at=_at(age)))


def _other_verb(random: Random) -> Shot:
    return _order("pause on the topic of status", _command(random, verb="pause"), verb="status")


def _replayed(random: Random) -> Shot:
    """One of eight orders, sent again and again; the edge answers each once."""
    number = random.randrange(8)
    return _order("an order sent again", _command(random, request_id=f"{number:032x}"))


def _kept(random: Random) -> Shot:
    return _order(
        "an order of another day, retained", _command(random, verb="pause", at=_at(-86400)), retain=True
    )


def _bad_case(random: Random) -> Shot:
    text = random.choice([None, *(one for one in TEXTS.values() if not _CODE.fullmatch(one))])
    return _order("case-start of a code that is none", _command(random, verb="case-start", case=text))


def _bad_settings(random: Random) -> Shot:
    """Settings that may not be changed from afar, or not to such values."""
    key, value = random.choice(
        [
            ("directory", f"/tmp/{PAYLOAD_MARK}"),  # noqa: S108 - a string that must be refused
            ("broker.host", "203.0.113.9"),
            ("broker.password", PAYLOAD_MARK),
            ("quality.__class__", PAYLOAD_MARK),
            ("quality.min_focus", "NaN"),
            ("quality.min_focus", -1),
            ("quality.min_focus", 1e308),
            ("interval_s", -5),
            ("interval_s", 1e9),
            ("encoding.quality", 10**9),
            ("encoding", PAYLOAD_MARK),
            ("", 1),
            (".", 1),
            (random.choice(SCRIPTS), True),
            (PAYLOAD_MARK * 50, PAYLOAD_MARK),
        ]
    )
    return _order(
        "settings that may not be changed", _command(random, verb="settings", settings={key: value})
    )


def _many_settings(random: Random) -> Shot:
    settings = {f"{PAYLOAD_MARK}{number}": number for number in range(2000)}
    return _order("2,000 settings", _command(random, verb="settings", settings=settings))


def _bad_count(random: Random) -> Shot:
    frames = random.choice([0, -1, 10_001, 2**63, "many", 1.5])
    return _order(f"capture of {frames}", _command(random, verb="capture", frames=frames))


def _retry_of_none(random: Random) -> Shot:
    """An order to send frames again that this edge never had, or ids that are none."""
    wanted = random.choice(
        [
            [],
            [hexadecimal(random, 32) for _ in range(1000)],
            [hexadecimal(random, 32) for _ in range(1001)],
            [hexadecimal(random, 32)] * 500,
            ["*", "%", PAYLOAD_MARK],
        ]
    )
    return _order(f"retry of {len(wanted)} unknown frames", _command(random, verb="retry", frame_ids=wanted))


def _receipt(random: Random, what: str, **changes: Any) -> Shot:
    content = honest.fields("receipt", random) | changes
    return Shot(FAMILY, what, honest.topic("receipt"), honest.encode("receipt", content))


def _unknown_frame(random: Random) -> Shot:
    return _receipt(random, "receipt for a frame that is none")


def _contradiction(random: Random) -> Shot:
    """One of eight invented frames: recorded, rejected and to be retried, by turns."""
    return _receipt(random, "contradictory receipts", frame_id=f"{random.randrange(8):032x}")


def _unknown_status(random: Random) -> Shot:
    return _receipt(
        random, "receipt of an unknown status", status=random.choice(["", "RECORDED", "lost", PAYLOAD_MARK])
    )


def _bad_id(random: Random) -> Shot:
    digits = hexadecimal(random, 32)
    frame_id = random.choice(
        [digits.upper(), digits[:-1], digits + "0", digits + "\n", "../" + digits, f" {digits}", "*"]
    )
    return _receipt(random, "receipt for an id that is none", frame_id=frame_id)


def _long_reason(random: Random) -> Shot:
    return _receipt(
        random, "receipt of a hostile reason", status="rejected", reason=random.choice(list(TEXTS.values()))
    )


_WAYS: dict[Callable[[Random], Shot], int] = {
    _stale: 4,
    _other_verb: 1,
    _replayed: 2,
    _kept: 1,
    _bad_case: 3,
    _bad_settings: 4,
    _many_settings: 1,
    _bad_count: 2,
    _retry_of_none: 2,
    _unknown_frame: 3,
    _contradiction: 3,
    _unknown_status: 2,
    _bad_id: 3,
    _long_reason: 2,
}


def shoot(random: Random) -> Shot:
    """Return one such message."""
    return random.choices(list(_WAYS), list(_WAYS.values()))[0](random)
