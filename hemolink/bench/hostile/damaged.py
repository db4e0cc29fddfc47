"""Valid payloads with damaged bytes: what a bad line, a bad disk or a half-written buffer makes of a message."""

from collections.abc import Callable
from random import Random

from hemolink.bench.hostile import honest
from hemolink.bench.hostile.shot import Shot

FAMILY = "damaged bytes"


def _flip_bits(payload: bytearray, random: Random) -> bytes:
    for _ in range(random.randint(1, 8)):
        payload[random.randrange(len(payload))] ^= 1 << random.randrange(8)
    return bytes(payload)


def _overwrite(payload: bytearray, random: Random) -> bytes:
    start, length = random.randrange(len(payload)), random.randint(1, 64)
    payload[start : start + length] = random.randbytes(min(length, len(payload) - start))
    return bytes(payload)


def _swap_halves(payload: bytearray, _random: Random) -> bytes:
    middle = len(payload) // 2
    return bytes(payload[middle:] + payload[:middle])


def _insert(payload: bytearray, random: Random) -> bytes:
    place = random.randrange(len(payload))
    return bytes(payload[:place] + random.randbytes(random.randint(1, 32)) + payload[place:])


DAMAGES: dict[str, Callable[[bytearray, Random], bytes]] = {
    "bits flipped": _flip_bits,
    "a stretch overwritten": _overwrite,
    "halves swapped": _swap_halves,
    "bytes inserted": _insert,
    "cut short": lambda payload, random: bytes(payload[: random.randrange(len(payload))]),
    "its head lost": lambda payload, random: bytes(payload[random.randrange(1, len(payload)) :]),
    "sent twice in one payload": lambda payload, _: bytes(payload + payload),
    "zeros": lambda payload, _: bytes(len(payload)),
    "all ones": lambda payload, _: b"\xff" * len(payload),
    "random bytes": lambda payload, random: random.randbytes(len(payload)),
    "empty": lambda _payload, _random: b"",
    "one byte": lambda _payload, random: random.randbytes(1),
    "reversed": lambda payload, _: bytes(payload[::-1]),
    "compressed": lambda payload, _: b"\x1f\x8b\x08\0" + bytes(payload),
    "a byte-order mark before it": lambda payload, _: b"\xef\xbb\xbf" + bytes(payload),
    "another type's payload": lambda _payload, random: honest.encode(
        other := random.choice(honest.KINDS), honest.fields(other, random)
    ),
}


def shoot(random: Random) -> Shot:
    """Return a message of any type with one damage."""
    kind = honest.kind_of(random)
    payload = bytearray(honest.encode(kind, honest.fields(kind, random)))
    name = random.choice(list(DAMAGES))
    return Shot(FAMILY, f"{kind}: {name}", honest.topic(kind), DAMAGES[name](payload, random))
