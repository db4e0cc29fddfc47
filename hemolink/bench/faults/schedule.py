"""When what breaks: drawn by a seed, so that the same seed gives the same schedule.

Every kind of fault is a card for each of its targets. The deck is shuffled, dealt one card after another at jittered
times, and shuffled anew when it is empty; so a long run sees every kind several times, and a short one a fair sample.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

FIRST_S = 2.0
"""No fault before the load has begun."""

LAST_SHARE = 0.97
"""No fault begins in the last part of the load."""

_JITTER = 0.6
_MAX_AT_ONCE = 3


@dataclass(frozen=True)
class Card:
    """One thing that can be broken in one way.

    Attributes:
        kind: What is done.
        target: To what.
        lasts_s: Shortest and longest time until it is put right.
        holds: What it occupies meanwhile: two cards that hold the same thing are never played at once.
        copies: How often it stands in the deck.
    """

    kind: str
    target: str
    lasts_s: tuple[float, float]
    holds: frozenset[str]
    copies: int = 1


@dataclass(frozen=True)
class Event:
    """One fault of a schedule.

    Attributes:
        number: From 1, in order of time.
        at_s: When it begins, in seconds since the load began.
        lasts_s: When it is put right, counted from then.
        kind: What is done.
        target: To what.
        chance: A number of its own from 0 to 1, for what the fault itself draws.
    """

    number: int
    at_s: float
    lasts_s: float
    kind: str
    target: str
    chance: float


def make_schedule(cards: Iterable[Card], *, seconds: float, every_s: float, seed: int) -> tuple[Event, ...]:
    """Return the faults of a run.

    Args:
        cards: What can be broken here.
        seconds: Length of the load.
        every_s: Mean time between two faults.
        seed: Of the schedule.
    """
    deck = sorted(
        (card for card in cards for _ in range(card.copies)), key=lambda card: (card.kind, card.target)
    )
    if not deck:
        return ()
    rng = random.Random(f"schedule-{seed}")
    events: list[Event] = []
    hand: list[Card] = []
    busy: dict[str, float] = {}
    ends: list[float] = []
    at_s = FIRST_S
    until_s = seconds * LAST_SHARE
    while at_s < until_s:
        ends = [end for end in ends if end > at_s]
        if not hand:
            hand = rng.sample(deck, len(deck))
        card = _playable(hand, busy, at_s) if len(ends) < _MAX_AT_ONCE else None
        if card is not None:
            hand.remove(card)
            lasts_s = round(rng.uniform(*card.lasts_s), 2)
            events.append(
                Event(len(events) + 1, round(at_s, 2), lasts_s, card.kind, card.target, rng.random())
            )
            ends.append(at_s + lasts_s)
            for thing in card.holds:
                busy[thing] = at_s + lasts_s + 1.0
            pause = every_s
        else:
            pause = every_s / 4
        at_s += pause * rng.uniform(1 - _JITTER, 1 + _JITTER)
    return tuple(events)


def _playable(hand: Sequence[Card], busy: Mapping[str, float], at_s: float) -> Card | None:
    return next((card for card in hand if all(busy.get(thing, 0.0) <= at_s for thing in card.holds)), None)
