"""The small rules of delivery, each by itself, with a clock that the test turns."""

import random
import threading

import pytest

from broker_config.fleet_messages import WorkerState
from broker_config.messages import now
from edge_agent.fleet import Fleet
from edge_agent.hold import Hold
from edge_agent.inbox import Inbox
from edge_agent.lease import Leases
from edge_agent.pulse import Pulse
from edge_agent.status import Alarms
from edge_agent.stumbles import Stumbles
from tests.edge_agent.conftest import eventually


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def state(presence, birth, worker="w1"):
    return WorkerState(worker=worker, pool="p", presence=presence, birth=birth, at=now())


def test_the_fleet_is_deserted_only_if_workers_say_so_and_none_has_answered(clock):
    fleet = Fleet(clock=clock)
    assert fleet.verdict == "unknown"  # a topic that nobody may read stops nothing
    assert not fleet.hear(state("online", 3), retained=True)  # it was there before
    assert fleet.verdict == "staffed"
    assert not fleet.hear(state("offline", 2), retained=False)  # the will of an earlier life
    assert fleet.verdict == "staffed"
    fleet.hear(state("offline", 3), retained=False)
    assert fleet.verdict == "deserted"
    fleet.prove()
    assert fleet.verdict == "staffed"  # whoever answers is there, whatever the states say
    clock.now += 100
    assert fleet.verdict == "deserted"
    fleet.lose("w1")
    assert fleet.verdict == "unknown"


def test_a_worker_that_lost_its_count_or_was_slandered_is_believed_when_it_speaks(clock):
    fleet = Fleet(clock=clock)
    fleet.hear(state("offline", 2**53 - 1), retained=False)
    assert fleet.hear(state("online", 1), retained=False)
    assert fleet.verdict == "staffed"
    assert not fleet.hear(state("online", 1), retained=False)  # a heartbeat is no arrival
    for number in range(20_000):
        fleet.hear(state("offline", 1, worker=f"invented-{number}"), retained=False)
    assert fleet.known <= 10_000
    assert fleet.verdict == "staffed"


def test_a_lease_ends_is_not_prolonged_and_grows_with_each_term(clock):
    leases = Leases(term_s=10, max_s=35, clock=clock)
    first = leases.grant("a")
    clock.now += 9
    assert leases.grant("a") == first
    assert leases.run_out() == []
    clock.now += 1
    assert leases.run_out() == [first]
    lengths = []
    for _ in range(3):
        lease = leases.grant("a")
        lengths.append(lease.until - lease.granted_at)
        clock.now = lease.until
        leases.run_out()
    assert lengths == [20, 35, 35]
    leases.end("a")
    assert leases.next_end is None
    assert leases.grant("a").until == clock.now + 10


def test_a_hold_probes_at_growing_pauses_for_ever_and_tells_why(clock):
    alarms = Alarms()
    hold = Hold(alarms, max_s=300, clock=clock, uniform=random.Random(1).uniform)
    hold.put("deserted", "nobody is online")
    hold.put("nobody_subscribes", "nobody subscribes")
    assert hold.next_at <= clock.now  # the first probe goes at once
    pauses = []
    for _ in range(12):
        hold.probed()
        pauses.append(hold.next_at - clock.now)
        clock.now = hold.next_at
    assert 0.5 <= pauses[0] <= 1
    assert all(15 <= pause <= 30 for pause in pauses[6:])
    assert alarms.sentence == "nobody is online"
    assert not hold.lift("deserted")
    assert alarms.sentence == "nobody subscribes"
    assert hold.lift("nobody_subscribes")
    assert (alarms.sentence, hold.next_at) == ("", 0.0)


def test_a_frame_that_ends_connections_alone_rests_longer_each_time(clock):
    stumbles = Stumbles(max_s=60, clock=clock, uniform=lambda low, high: high)
    assert not stumbles.note("big", alone=False)  # one of a window: it may have been any of them
    assert stumbles.cautious
    assert [stumbles.note("big", alone=True) for _ in range(3)] == [False, False, True]
    assert stumbles.resting == ("big",)
    stumbles.passed("small")
    assert not stumbles.cautious
    clock.now += 3
    assert stumbles.resting == ()
    assert stumbles.note("big", alone=False)  # known by now
    clock.now += 3.5
    assert stumbles.resting == ("big",)
    stumbles.forget("big")
    assert stumbles.resting == ()


def test_an_inbox_refuses_a_flood_and_never_its_own():
    inbox = Inbox(max_bytes=100)
    assert inbox.offer("a", size=60)
    assert not inbox.offer("b", size=60)
    inbox.put("own")
    assert inbox.take(0) == ["a", "own"]
    assert inbox.offer("c", size=60)
    assert inbox.take(None) == ["c"]
    inbox.ring()
    assert inbox.take(None) == []


def test_the_pulse_spreads_its_beats_and_answers_the_bell():
    asked = []
    bell, beats = threading.Event(), []

    def uniform(low, high):
        asked.append((low, high))
        return high

    pulse = Pulse(lambda: beats.append(1), every_s=3600, bell=bell, uniform=uniform)
    pulse.start()
    bell.set()
    eventually(lambda: beats)
    pulse.stop()
    assert asked[0] == (0.0, 3600)  # the first one at any time
    assert asked[1] == (0.8, 1.2)
