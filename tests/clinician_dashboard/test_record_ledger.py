"""The gap ledger: as a model over random histories, and as a person sees it through broker and pages."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from clinician_dashboard.record import RecordWriter
from clinician_dashboard.record import missing as missing_module
from clinician_dashboard.record.missing import find_missing
from clinician_dashboard.record.ranges import Ranges

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Bench:
    """A record with a clock of its own."""

    def __init__(self, store):
        self.now = START
        self.store = store
        self.open()

    def open(self):
        self.record = self.store.record()
        self.record.start()
        self.writer = RecordWriter(self.record, clock=lambda: self.now)

    def apply(self, *items):
        return self.writer.apply(items)

    def missing(self):
        """What is missing of the only device, a while later."""
        with self.record.snapshot() as session:
            found = find_missing(session, now=self.now + timedelta(minutes=1))
        return found[0] if found else None


@pytest.fixture
def bench(store):
    made = Bench(store)
    yield made
    made.record.stop()


def test_ranges_are_a_set_that_knows_its_changes():
    rng = random.Random(7)
    ranges, model, stored = Ranges(), set(), {}
    top = 0
    for _ in range(2000):
        if rng.random() < 0.2:
            size = rng.randint(1, 8)
            ranges.open(top, top + size - 1, at=START)
            model |= set(range(top, top + size))
            top += size + rng.randint(0, 2)
        elif model:
            number = rng.choice(sorted(model)) if rng.random() < 0.9 else rng.randint(0, top)
            assert ranges.close(number) == (number in model)
            model.discard(number)
        if rng.random() < 0.1:
            written, gone = ranges.changes()
            for first in gone:
                del stored[first]
            stored |= {span.first: span.last for span in written}
            assert {n for first, last in stored.items() for n in range(first, last + 1)} == model
            assert stored == {span.first: span.last for span in ranges}
    assert {n for span in ranges for n in range(span.first, span.last + 1)} == model


@pytest.mark.parametrize("seed", range(4))
def test_every_number_is_recorded_told_on_its_way_or_missing(bench, make, seed, tmp_path):
    """A random history against plain sets: losses, any order, repeats, failed commits, restarts of the dashboard."""
    rng = random.Random(seed)
    bench.apply(make.state(next_sequence=0))
    captured, recorded, told, lost = {}, set(), set(), set()
    for step in range(60):
        for _ in range(rng.randint(0, 6)):
            frame = make.frame(sequence=len(captured), image=f"{seed}-{len(captured)}".encode())
            captured[frame.sequence] = frame
        waiting = set(captured) - recorded - told - lost
        some = rng.sample(sorted(waiting), min(len(waiting), rng.randint(0, 6)))
        batch = []
        for number in some:
            fate = rng.random()
            if fate < 0.1:
                lost.add(number)
            elif fate < 0.2:
                told.add(number)
                batch.append(make.rejection(captured[number], sequence=number))
            else:
                recorded.add(number)
                batch += [captured[number], make.diagnosis(captured[number])] * rng.randint(1, 2)
        rng.shuffle(batch)
        if batch and rng.random() < 0.2:
            with pytest.raises(AttributeError):
                bench.apply(*batch, None)  # the whole batch is taken back, and comes again
        bench.apply(*batch)
        if step % 20 == 19:
            bench.record.stop()
            bench.open()
        waiting = set(captured) - recorded - told - lost
        if rng.random() < 0.5:
            bench.apply(make.state(next_sequence=len(captured), spooled=len(waiting)))
            found = bench.missing()
            count, way = (found.count, found.on_the_way) if found else (0, 0)
            assert (count, way) == (len(lost), len(waiting))
    waiting = set(captured) - recorded - told - lost
    oldest = min(waiting, default=None)
    bench.apply(make.state(next_sequence=len(captured), spooled=len(waiting), oldest_waiting=oldest))
    found = bench.missing()
    named = {n for first, last in found.spans for n in range(first, last + 1)}
    assert named == {number for number in lost if oldest is None or number < oldest}


def test_a_record_that_starts_in_the_middle_answers_for_what_comes_after(bench, make):
    make.count = 500
    bench.apply(make.state(next_sequence=501, spooled=3))  # 497 were settled elsewhere
    frame = make.frame()
    bench.apply(frame, make.diagnosis(frame))
    assert bench.missing() is None
    bench.apply(make.state(next_sequence=505))
    assert bench.missing().spans == [(502, 504)]
    # And one that starts late, while the device still has all it ever captured.
    other = type(make)("ward", "scope-2")
    bench.apply(other.state(next_sequence=4, spooled=4))
    bench.apply(other.state(next_sequence=4, spooled=0))
    with bench.record.snapshot() as session:
        assert [one.count for one in find_missing(session, now=bench.now + timedelta(minutes=1))] == [3, 4]


def test_an_edge_of_an_earlier_release_is_judged_by_its_spool(bench, make):
    first, _second, third = make.frame(), make.frame(), make.frame()
    bench.apply(make.state(), first, make.diagnosis(first), third, make.diagnosis(third))
    assert (bench.missing().count, bench.missing().on_the_way) == (0, 1)
    bench.apply(make.state(spooled=1))
    assert (bench.missing().count, bench.missing().on_the_way) == (0, 1)
    bench.apply(make.state(spooled=0))
    assert bench.missing().spans == [(2, 2)]


def test_a_will_and_a_late_state_prove_nothing(bench, make):
    bench.apply(make.state(next_sequence=0))
    bench.apply(make.state(next_sequence=10, spooled=10))
    bench.apply(make.state(next_sequence=0, spooled=0, presence="offline", at=START))
    assert (bench.missing().count, bench.missing().on_the_way) == (0, 10)
    bench.apply(make.state(birth=1, next_sequence=5, spooled=0))  # the broker delivers an older one again
    assert (bench.missing().count, bench.missing().on_the_way) == (0, 10)


def test_a_device_that_is_set_up_anew_loses_what_its_spool_held(bench, make):
    frames = [make.frame(sequence=number) for number in range(5)]
    bench.apply(make.state(next_sequence=0))
    bench.apply(*frames[:3], *map(make.diagnosis, frames[:3]), make.state(next_sequence=5, spooled=2))
    assert bench.missing().count == 0
    anew, second = make.frame(sequence=0), make.frame(sequence=1)
    bench.apply(anew, make.diagnosis(anew))  # before its state
    bench.apply(make.state(birth=2, next_sequence=2, spooled=2))  # its receipt has not come yet
    found = bench.missing()
    assert (found.count, found.former, found.spans, found.on_the_way) == (2, 2, [(3, 4)], 1)
    bench.apply(second, make.diagnosis(second), make.state(birth=2, next_sequence=2))
    assert (bench.missing().count, bench.missing().on_the_way) == (2, 0)


def test_a_known_frame_under_another_number_leaves_no_gap(bench, make):
    """An edge with a folder of pictures that lost its spool takes the same pictures again, with the same ids."""
    frame = make.frame(sequence=0)
    bench.apply(make.state(next_sequence=0), frame, make.diagnosis(frame), make.state(next_sequence=1))
    again = frame.model_copy(update={"sequence": 5})
    bench.apply(make.state(next_sequence=5), make.state(next_sequence=6, spooled=1), again)
    bench.apply(make.state(next_sequence=6))
    assert bench.missing().spans == [(1, 4)]


def test_lost_frames_are_shown_to_a_person(
    mosquitto_broker, tmp_path, desk, far_side, make, eventually, monkeypatch
):
    monkeypatch.setattr(missing_module, "SETTLED_AFTER", timedelta(0))
    make.device = "scope-07"
    make.count = 1039
    frames = [make.frame() for _ in range(6)]  # 1040 to 1045
    with (
        desk(mosquitto_broker.port, tmp_path / "desk", protocol="5") as running,
        far_side(mosquitto_broker.port, protocol="5") as far,
    ):
        far.send(make.state(next_sequence=1040))
        kept = [frames[0], *frames[4:]]
        far.send(*kept, *map(make.diagnosis, kept), make.state(next_sequence=1046, spooled=3))
        eventually(lambda: running.summary()["recorded"] == 3 and running.summary()["on_the_way"] == 3)
        assert running.summary()["missing"] == 0
        assert "On their way" in running.http.get("/fleet").text
        assert "Nothing waits for a person" in running.http.get("/attention").text
        far.send(make.state(next_sequence=1046, spooled=0))
        eventually(lambda: running.summary()["missing"] == 3)
        sentence = "3 frames of scope-07 never came: numbers 1041 to 1043"
        assert sentence in running.http.get("/attention").text
        assert sentence in running.http.get("/fleet").text
        (device,) = running.http.get("/api/v1/fleet").json()["devices"]
        assert (device["missing"]["count"], device["missing"]["numbers"]) == (3, [[1041, 1043]])
        assert "hemolink_dashboard_missing_frames 3.0" in running.http.get("/metrics").text
        # A late one comes after all, and one is told as lost.
        far.send(
            frames[1], make.diagnosis(frames[1]), make.rejection(frames[2], sequence=1042, code="disk_damage")
        )
        eventually(lambda: running.summary()["missing"] == 1)
        assert "1 frame of scope-07 never came: number 1043" in running.http.get("/attention").text
