"""Good messages where they do not belong, and topics that are none of Hemolink's."""

from collections.abc import Callable
from random import Random

from hemolink.bench.hostile import honest
from hemolink.bench.hostile.shot import DEVICE, ROOT, SITE, TOPIC_MARK, Shot

FAMILY = "topics"
BASE = f"{ROOT}/v1/{SITE}/{DEVICE}"

NAMES: dict[str, bytes] = {
    "another priority": f"{BASE}/frame/{TOPIC_MARK}".encode(),
    "no priority": f"{BASE}/frame/".encode(),
    "upper case": f"{ROOT}/v1/Fuzz/SCOPE/frame/routine".encode(),
    "an empty site": f"{ROOT}/v1//{DEVICE}/frame/stat".encode(),
    "an empty device": f"{ROOT}/v1/{SITE}//state".encode(),
    "both empty": f"{ROOT}/v1///rejected".encode(),
    "a level of 60,000 characters": f"{ROOT}/v1/{SITE}/{TOPIC_MARK * 7000}/frame/routine".encode(),
    "a level of 49 characters": f"{ROOT}/v1/{SITE}/{'a' * 49}/diagnosis".encode(),
    "path traversal": f"{ROOT}/v1/../{TOPIC_MARK}/state".encode(),
    "a script": f"{ROOT}/v1/<script>{TOPIC_MARK}/{DEVICE}/rejected".encode(),
    "a right-to-left override": f"{ROOT}/v1/{SITE}/\u202e{TOPIC_MARK}/state".encode(),
    "line separators": f"{ROOT}/v1/{SITE}/\u2028{TOPIC_MARK}\u2029/diagnosis".encode(),
    "zero-width": f"{ROOT}/v1/{SITE}/scope\u200b-1{TOPIC_MARK}/frame/routine".encode(),
    "another script": f"{ROOT}/v1/{SITE}/sсоpe-1{TOPIC_MARK}/state".encode(),  # noqa: RUF001 - Cyrillic is the point
    "combining marks": f"{ROOT}/v1/{SITE}/{TOPIC_MARK}{'e' + chr(0x301) * 400}/state".encode(),
    "blanks": f"{ROOT}/v1/{SITE}/ {TOPIC_MARK} /rejected".encode(),
    "percent signs": f"{ROOT}/v1/%s%n/{TOPIC_MARK}%2f/frame/stat".encode(),
    "the fleet as a site": f"{ROOT}/v1/fleet/{TOPIC_MARK}/frame/routine".encode(),
    "a worker of no name": f"{ROOT}/v1/fleet//state".encode(),
    "a worker with a slash's homoglyph": f"{ROOT}/v1/fleet/a\u2215b{TOPIC_MARK}/state".encode(),
    "an unknown verb": f"{BASE}/command/{TOPIC_MARK}".encode(),
    "an empty verb": f"{BASE}/command/".encode(),
    "a verb in upper case": f"{BASE}/command/STATUS".encode(),
}
"""Topics that a daemon's filter matches and that are not Hemolink's."""

UNHEARD: dict[str, bytes] = {
    "the next version": f"{ROOT}/v2/{SITE}/{DEVICE}/frame/routine".encode(),
    "another root": f"{TOPIC_MARK}/v1/{SITE}/{DEVICE}/frame/routine".encode(),
    "a leading slash": f"/{BASE}/frame/routine".encode(),
    "a level too many": f"{BASE}/frame/routine/{TOPIC_MARK}".encode(),
    "an unknown kind": f"{BASE}/{TOPIC_MARK}".encode(),
    "slashes": b"/" * 150,
    "one character": b"a",
}
"""Topics that nobody subscribes to."""


def _foreign(random: Random) -> Shot:
    """A good message on another device's topic: it states one sender and comes from another."""
    kind = random.choice(["frame", "diagnosis", "rejected", "state", "worker-state"])
    content = honest.fields(kind, random, site="elsewhere", device="scope-9")
    place = random.choice([honest.topic(kind), honest.topic(kind, site="elsewhere", worker="other")])
    return Shot(FAMILY, f"{kind} of another sender", place, honest.encode(kind, content))


def _wrong_kind(random: Random) -> Shot:
    """A good message of one type on the topic of another."""
    inside, outside = random.sample(honest.KINDS, 2)
    payload = honest.encode(inside, honest.fields(inside, random))
    return Shot(FAMILY, f"{inside} on the topic of {outside}", honest.topic(outside), payload)


def _no_topic(random: Random) -> Shot:
    name = random.choice(list(NAMES))
    kind = "frame" if b"/frame" in NAMES[name] else random.choice(honest.KINDS)
    return Shot(FAMILY, name, NAMES[name], honest.encode(kind, honest.fields(kind, random)))


def _unheard(random: Random) -> Shot:
    name = random.choice(list(UNHEARD))
    kind = random.choice(honest.KINDS)
    return Shot(FAMILY, name, UNHEARD[name], honest.encode(kind, honest.fields(kind, random)))


def _cleared(random: Random) -> Shot:
    """An empty payload, retained: what clears a retained message."""
    kind = random.choice(honest.KINDS)
    return Shot(FAMILY, f"{kind}: empty and retained", honest.topic(kind, worker="nobody"), b"", retain=True)


def _retained(random: Random) -> Shot:
    """Junk, retained, where every daemon that starts later will find it."""
    kind = random.choice(
        ["state", "worker-state", "fleet-model", "fleet-stops", "frame", "diagnosis", "rejected"]
    )
    place = honest.topic(kind, device=f"ghost-{random.randrange(20)}", worker=f"ghost-{random.randrange(20)}")
    return Shot(
        FAMILY, f"{kind}: junk retained", place, random.randbytes(random.randrange(1, 200)), retain=True
    )


_WAYS: dict[Callable[[Random], Shot], int] = {
    _foreign: 3,
    _wrong_kind: 3,
    _no_topic: 5,
    _unheard: 1,
    _cleared: 1,
    _retained: 1,
}


def shoot(random: Random) -> Shot:
    """Return one such message."""
    return random.choices(list(_WAYS), list(_WAYS.values()))[0](random)
