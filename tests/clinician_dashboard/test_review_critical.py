"""The critical loop on a real record: opened, acknowledged, told with read-back, escalated, closed; never by itself."""

from datetime import timedelta

import pytest

from broker_config.messages import Alert
from clinician_dashboard.outbox.tables import OutboxRow
from clinician_dashboard.review.critical import Call
from clinician_dashboard.review.errors import OutOfOrder, Unusable
from clinician_dashboard.review.reading import Word
from tests.clinician_dashboard.desk.reviewing import ANNA, BEN, LEAD, WARD, opened
from tests.clinician_dashboard.desk.stores import sqlite_store


@pytest.fixture
def place(tmp_path, make):
    yield from opened(sqlite_store(tmp_path / "desk").record(), make)


@pytest.fixture
def anywhere(store, make):
    """The same on both databases."""
    yield from opened(store.record(), make)


def test_the_critical_loop_from_alert_to_read_back(anywhere):
    place = anywhere
    frames = place.send("AML", number=2)
    assert place.follower.take_alerted()
    assert not place.follower.take_alerted()
    (alert,) = place.desk.alerts()
    assert (alert.state, alert.case.code) == ("open", "HL-1")
    place.desk.claim(ANNA, *WARD)
    place.desk.view(ANNA, *WARD, frames)
    place.desk.conclude(ANNA, *WARD, Word("AML", finer="M3"))
    place.desk.conclude(BEN, *WARD, Word("AML"))
    assert place.unmet(ANNA) == {"call"}
    call = Call("ward_physician", "st-17", read_back=True, at=place.at)
    with pytest.raises(OutOfOrder, match="Acknowledge the alert first"):
        place.desk.log_call(ANNA, *WARD, call)
    place.desk.acknowledge(ANNA, *WARD)
    with pytest.raises(OutOfOrder, match="anna has acknowledged"):
        place.desk.acknowledge(BEN, *WARD)
    for bad, says in (
        (Call("patient", "st-17", read_back=True), "by their role"),
        (Call("ward_physician", "Jane Doe", read_back=True), "No names"),
        (Call("ward_physician", "st-17", read_back=False), "read it back"),
        (Call("ward_physician", "st-17", read_back=True, at=place.at + timedelta(hours=1)), "future"),
        (Call("ward_physician", "st-17", read_back=True, note="x" * 501), "too long"),
    ):
        with pytest.raises(Unusable, match=says):
            place.desk.log_call(ANNA, *WARD, bad)
    with pytest.raises(OutOfOrder, match="no acute leukaemia"):
        place.desk.close_alert(ANNA, *WARD, reason="busy")
    place.desk.log_call(ANNA, *WARD, call)
    assert place.desk.alerts() == []
    made = place.desk.sign(ANNA, *WARD, password="right")
    assert made.call["told_code"] == "st-17"
    assert made.call["read_back"] is True
    states = [
        Alert.model_validate_json(row.payload).state for row in place.rows(OutboxRow) if row.kind == "alert"
    ]
    assert states == ["open", "acknowledged", "closed"]


def test_an_alert_that_nobody_sees_to_is_escalated_once(place):
    place.send("ALL")
    place.later(minutes=14)
    place.watch.look()
    assert place.escalated == []
    place.later(minutes=2)
    place.watch.look()
    place.watch.look()
    assert place.escalated == [1]
    assert [one.state for one in place.desk.alerts()] == ["escalated"]
    assert place.desk.open_counts() == {"open": 0, "acknowledged": 0, "escalated": 1}
    place.desk.acknowledge(LEAD, *WARD)
    assert [one.state for one in place.desk.alerts()] == ["acknowledged"]


def test_an_alert_is_closed_without_a_call_only_by_who_concluded_otherwise(place):
    frames = place.send("AML")
    place.desk.claim(ANNA, *WARD)
    place.desk.view(ANNA, *WARD, frames)
    with pytest.raises(OutOfOrder):
        place.desk.close_alert(ANNA, *WARD, reason="reactive")
    place.desk.conclude(ANNA, *WARD, Word("healthy", reason="blasts_doubtful"))
    place.desk.close_alert(ANNA, *WARD, reason="reactive lymphocytes, seen twice")
    place.desk.conclude(BEN, *WARD, Word("healthy", reason="blasts_doubtful"))
    made = place.desk.sign(ANNA, *WARD, password="right")
    assert made.call["closed_how"] == "not_critical"


def test_a_reader_who_suspects_what_the_model_did_not_opens_the_alert(place):
    place.send("healthy")
    place.desk.claim(ANNA, *WARD)
    place.desk.conclude(ANNA, *WARD, Word("AML", reason="blasts_missed"))
    (alert,) = place.desk.alerts()
    assert alert.row.cause == "reader"
    assert place.heard[-1] == ("ward", "HL-1", True)
