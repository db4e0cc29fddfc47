"""The critical loop on a real record: opened, acknowledged, told with read-back, escalated, closed; never by itself."""

from datetime import timedelta

import pytest

from broker_config.desk_messages import Alert
from clinician_dashboard.outbox.tables import OutboxRow
from clinician_dashboard.record.case_summary import note_suspicion
from clinician_dashboard.record.worklist import CaseFilter, read_worklist
from clinician_dashboard.review.critical import Call
from clinician_dashboard.review.errors import OutOfOrder, Unusable
from clinician_dashboard.review.facts import find_case
from clinician_dashboard.review.reading import Word
from clinician_dashboard.review.tables import CriticalCallRow
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


def test_a_suspicion_that_comes_back_after_its_alert_was_closed_as_none_is_told_anew(anywhere):
    place = anywhere
    place.send("AML")
    place.desk.claim(ANNA, *WARD)
    place.desk.conclude(ANNA, *WARD, Word("healthy", reason="blasts_doubtful"))
    place.desk.close_alert(ANNA, *WARD, reason="reactive lymphocytes")
    place.send("AML")  # the same suspicion, which was judged
    assert place.desk.alerts() == []
    place.send("healthy", number=8)
    assert not place.facts().suspected
    assert place.desk.alerts() == []
    place.send("AML", number=20)
    assert [(one.row.cause, one.state) for one in place.desk.alerts()] == [("model", "open")]
    assert "call" in place.unmet(ANNA)
    place.send("AML")
    assert len(place.rows(CriticalCallRow)) == 2


def test_a_reader_who_suspects_what_the_model_did_not_opens_the_alert(place):
    place.send("healthy")
    place.desk.claim(ANNA, *WARD)
    place.desk.conclude(ANNA, *WARD, Word("AML", reason="blasts_missed"))
    (alert,) = place.desk.alerts()
    assert alert.row.cause == "reader"
    assert place.heard[-1] == ("ward", "HL-1", True)


def test_a_readers_own_suspicion_moves_the_case_at_once_and_the_place_follows_their_word(place):
    place.send("healthy", case="HL-0")
    frames = place.send("healthy")
    moved = []
    place.desk.on_moved.append(lambda _session, cases, _at: moved.extend(case.code for case in cases))

    def order():
        with place.record.snapshot() as session:
            found = read_worklist(session, CaseFilter(), limit=10)
        return [(case.code, case.urgency) for case in found.cases], found.by_urgency["critical"]

    assert order() == ([("HL-0", "routine"), ("HL-1", "routine")], 0)
    place.desk.claim(ANNA, *WARD)
    place.desk.view(ANNA, *WARD, frames)
    place.desk.conclude(ANNA, *WARD, Word("AML", reason="blasts_missed"))
    assert order() == ([("HL-1", "critical"), ("HL-0", "routine")], 1)
    assert place.facts().case.raised_by_reader
    assert not place.facts().suspected  # the model still does not
    place.send("healthy")  # frames that the model calls healthy do not calm it
    assert order()[0][0] == ("HL-1", "critical")
    assert moved == ["HL-1"]

    place.desk.conclude(ANNA, *WARD, Word("CLL", reason="maturation"))
    assert order() == ([("HL-0", "routine"), ("HL-1", "routine")], 0)
    assert [one.state for one in place.desk.alerts()] == ["open"]  # which only a person closes
    place.desk.conclude(BEN, *WARD, Word("ALL", reason="blasts_missed"))
    assert order()[0][0] == ("HL-1", "critical")
    place.desk.conclude(LEAD, *WARD, Word("CLL", reason="maturation"))  # the third reader decides
    assert order()[0] == [("HL-0", "routine"), ("HL-1", "routine")]
    assert len(place.rows(CriticalCallRow)) == 1


def test_what_was_signed_stays_urgent_until_it_is_read_anew_and_news_is_called_again(place):
    frames = place.send("AML")
    place.desk.claim(ANNA, *WARD)
    place.desk.view(ANNA, *WARD, frames)
    for reader in (ANNA, BEN):
        place.desk.conclude(reader, *WARD, Word("CLL", reason="maturation"))
    place.desk.acknowledge(ANNA, *WARD)
    call = Call("ward_physician", "st-17", read_back=True)
    place.desk.log_call(ANNA, *WARD, call)
    place.desk.sign(ANNA, *WARD, password="right")
    assert place.desk.alerts() == []
    place.later(minutes=1)
    place.desk.claim(ANNA, *WARD)
    place.desk.conclude(ANNA, *WARD, Word("AML"))  # an amendment that says what the signature did not
    assert [one.row.cause for one in place.desk.alerts()] == ["reader"]
    place.desk.conclude(BEN, *WARD, Word("AML"))
    assert place.unmet(ANNA) == {"call", "reason"}
    place.desk.acknowledge(ANNA, *WARD)
    place.desk.log_call(ANNA, *WARD, call)
    place.desk.sign(ANNA, *WARD, password="right", amend_reason="seen again")
    assert place.facts().case.reader_suspects
    assert place.facts().case.status == "signed"


def test_a_record_of_an_earlier_release_moves_the_cases_of_its_readers_on_opening(place):
    place.send("healthy")
    place.desk.claim(ANNA, *WARD)
    place.desk.conclude(ANNA, *WARD, Word("ALL", reason="blasts_missed"))
    with place.record.transaction() as session:
        note_suspicion(find_case(session, *WARD), suspects=False, at=place.at)  # as that release left it
    assert place.facts().case.urgency == "routine"
    place.watch.look()
    assert place.facts().case.urgency == "critical"
