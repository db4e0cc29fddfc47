"""One hostile message, and the marks that hostile text carries."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

PAYLOAD_MARK = "zq7payload"
"""Stands in hostile text inside payloads; no log may ever show it."""

TOPIC_MARK = "zq7topic"
"""Stands in hostile topics; a log may show it, with control characters escaped."""

MODEL_MARK = "zq7model"
"""In its place where a log may show it: the name of a model that the fleet should serve."""

SCRIPTS = (
    f"<script>{PAYLOAD_MARK}</script>",
    f'"><img src=x onerror={PAYLOAD_MARK}>',
    f"' onmouseover='{PAYLOAD_MARK}",
    f"{{{{ {PAYLOAD_MARK} }}}}",
)
UNESCAPED = tuple(
    f"{script}{mark}"
    for script in ("<script>", "<img src=x onerror=", "' onmouseover='")
    for mark in (PAYLOAD_MARK, MODEL_MARK)
)
"""What a page must never hold."""

ROOT = "hemolink"
SITE = "fuzz"
DEVICE = "scope-1"
"""The real edge under attack; ``GOOD_CASE`` is the case of its good frames, which no hostile frame claims."""
GOOD_CASE = "GOOD"


@dataclass(frozen=True)
class Shot:
    """One hostile message.

    Attributes:
        family: The generator's family, for the report.
        name: What is wrong with it.
        topic: Topic name as bytes; not always UTF-8.
        payload: Payload.
        properties: Encoded MQTT 5 properties, without their length.
        breaks: Whether it breaks the protocol, so that the broker itself must refuse it.
    """

    family: str
    name: str
    topic: bytes
    payload: bytes
    qos: int = 1
    retain: bool = False
    duplicate: bool = False
    properties: bytes = b""
    breaks: bool = False

    def but(self, **changes: Any) -> "Shot":
        """Return the shot with changes."""
        return replace(self, **changes)


Generator = Callable[[Random], Shot]


def hexadecimal(random: Random, digits: int) -> str:
    """Return so many random hexadecimal digits."""
    return f"{random.getrandbits(4 * digits):0{digits}x}"
