"""The stream of hostile messages: every family, mixed by a seed."""

from random import Random

from hemolink.bench.hostile import (
    cbor_structures,
    damaged,
    fields,
    images,
    json_structures,
    orders,
    packets,
    strangers,
    topics,
)
from hemolink.bench.hostile.shot import Generator, Shot

FAMILIES: dict[Generator, int] = {
    damaged.shoot: 16,
    cbor_structures.shoot: 10,
    json_structures.shoot: 14,
    fields.shoot: 22,
    images.shoot: 8,
    topics.shoot: 9,
    orders.shoot: 10,
    strangers.shoot: 8,
    packets.shoot: 5,
}
"""How often each family comes."""


def volley(seed: int, number: int, *, size: int) -> list[Shot]:
    """Return the hostile messages of one round.

    The same arguments give the same messages, but for the times in them, which are of the moment.

    Args:
        seed: Seed of the run.
        number: Number of the round.
        size: How many messages.
    """
    random = Random(f"{seed}/{number}")
    return [random.choices(list(FAMILIES), list(FAMILIES.values()))[0](random) for _ in range(size)]


def garbage(seed: int) -> list[Shot]:
    """Return junk, retained on every kind of state topic, as it may lie on a broker before anything starts."""
    random = Random(f"{seed}/garbage")
    found: list[Shot] = []
    while len(found) < 30:  # noqa: PLR2004 - enough for each kind
        shot = random.choice([damaged.shoot, fields.shoot, json_structures.shoot])(random)
        if shot.topic.endswith((b"/state", b"/model")) and len(shot.payload) < 100_000:  # noqa: PLR2004
            found.append(shot.but(family="retained garbage", retain=True))
    return found
