"""The schedule: chance with a seed, and never two faults that exclude each other."""

from collections import Counter

import pytest

from hemolink.bench.faults.kinds import KINDS
from hemolink.bench.faults.schedule import Card, make_schedule

DECK = {name: kind for name, kind in KINDS.items() if not kind.on_request}
CARDS = [card for kind in DECK.values() for card in kind.cards()]
HOLDS = {(card.kind, card.target): card.holds for card in CARDS}


def schedule(seed, *, seconds=300.0, every_s=3.6):
    return make_schedule(CARDS, seconds=seconds, every_s=every_s, seed=seed)


def test_the_same_seed_gives_the_same_schedule_and_another_seed_another():
    assert schedule(7) == schedule(7)
    assert schedule(7) != schedule(8)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_five_minutes_hold_enough_faults_of_nearly_every_kind(seed):
    events = schedule(seed)
    assert len(events) >= 70
    assert len({event.kind for event in events}) >= len(DECK) - 2
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert all(0 < event.at_s < 300 for event in events)


def test_three_seeds_of_five_minutes_hold_every_kind_and_two_hundred_faults():
    events = [event for seed in (1, 2, 3) for event in schedule(seed)]
    assert len(events) >= 200
    assert {event.kind for event in events} == set(DECK)


@pytest.mark.parametrize("seed", range(5))
def test_two_faults_never_hold_the_same_thing_at_once_and_some_overlap(seed):
    events = schedule(seed)
    overlaps = 0
    for index, one in enumerate(events):
        for other in events[index + 1 :]:
            if other.at_s >= one.at_s + one.lasts_s:
                continue
            overlaps += 1
            assert not HOLDS[one.kind, one.target] & HOLDS[other.kind, other.target]
    assert overlaps > 0


def test_a_deck_is_dealt_evenly():
    cards = [Card("kill", str(target), (0.1, 0.1), frozenset()) for target in range(5)]
    times = Counter(event.target for event in make_schedule(cards, seconds=200, every_s=2, seed=3)).values()
    assert max(times) - min(times) <= 1


def test_nothing_to_break_is_an_empty_schedule():
    assert make_schedule([], seconds=100, every_s=1, seed=1) == ()
