"""What is kept for the worklist stays right whatever happens to a case, and comes right where an earlier release left none."""

from datetime import UTC, datetime

import pytest

from broker_config.messages import ModelIdentity
from clinician_dashboard.model_stops import ModelStops
from clinician_dashboard.record import RecordReader, RecordWriter, case_counts, few_cases
from clinician_dashboard.record.case_filter import CaseFilter
from clinician_dashboard.record.writing import recount_worklist
from clinician_dashboard.review.reading import Word
from tests.clinician_dashboard.desk.kept import kept_for_worklist
from tests.clinician_dashboard.desk.maker import Maker
from tests.clinician_dashboard.desk.reviewing import ANNA, BEN, LEAD, WARD, opened

ANOTHER_MODEL = ModelIdentity(name="second", version="2.0", weights_sha256="b" * 64)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def place(store, make):
    yield from opened(store.record(), make)


def kept(record):
    with record.session() as session:
        return kept_for_worklist(session)


def agree(record):
    """What is kept is what a recount finds; returns it by what each microscope's cases are, exactly and without a bound."""
    before = kept(record)
    with record.transaction() as session:
        recount_worklist(session)
    assert kept(record) == before
    reader = RecordReader(record)
    found = {}
    for device in ("scope-1", "scope-2"):
        page = reader.worklist(CaseFilter(device=device))
        assert page.exact
        assert page.matching == len(page.cases)
        urgencies = {name: number for name, number in page.by_urgency.items() if number}
        found[device] = urgencies, {name for name, number in page.by_status.items() if number}
    return found


def test_counts_follow_a_case_through_review_amendment_a_second_microscope_and_a_stopped_model(
    place, eventually
):
    record, second = place.record, Maker("ward", "scope-2")
    waits = place.make.frame("HL-2")
    place.writer.apply([waits])
    frames = place.send("CLL")
    assert agree(record) == {
        "scope-1": ({"high": 1, "waiting": 1}, {"open", "unclaimed"}),
        "scope-2": ({}, set()),
    }
    place.desk.claim(ANNA, *WARD)
    assert agree(record)["scope-1"] == ({"high": 1, "waiting": 1}, {"open", "unclaimed", "claimed"})
    place.desk.view(ANNA, *WARD, frames)
    place.desk.conclude(ANNA, *WARD, Word("CLL"))
    place.desk.sign(ANNA, *WARD, password="right")
    assert agree(record)["scope-1"] == ({"high": 1, "waiting": 1}, {"open", "unclaimed", "signed"})

    later, *_ = more = [second.frame("HL-1"), second.frame("HL-2", captured_at=LONG_AGO)]
    answers = zip(more, ["CLL", "AML"], strict=True)
    place.writer.apply([*more, *(second.diagnosis(*one, model=ANOTHER_MODEL) for one in answers)])
    found = agree(record)
    assert (
        found["scope-1"] == found["scope-2"] == ({"critical": 1, "high": 1}, {"open", "unclaimed", "amend"})
    )
    assert RecordReader(record).worklist(CaseFilter(search="scope-2", status="amend")).matching == 1
    place.desk.claim(BEN, *WARD)
    place.desk.view(BEN, *WARD, [later.frame_id])
    place.desk.conclude(BEN, *WARD, Word("CLL"))
    place.desk.sign(BEN, *WARD, password="right", amend_reason="a frame came later")
    assert agree(record)["scope-2"][1] == {"open", "unclaimed", "signed"}

    stops = ModelStops(record, name="desk", followers=[place.follower], on_change=lambda _: None)
    stops.start()
    try:
        for stopped, urgencies in ((True, {"refer": 1, "high": 1}), (False, {"critical": 1, "high": 1})):
            stops.switch(ANOTHER_MODEL.weights_sha256, stopped=stopped, reason="a trial", actor=LEAD)
            eventually(lambda: all(one.applied == one.generation for one in stops.models()))
            assert agree(record)["scope-1"][0] == urgencies
    finally:
        stops.stop()


def test_where_counting_ends_is_said_of_each_urgency(place, monkeypatch):
    monkeypatch.setattr(case_counts, "COUNTED_TO", 2)
    monkeypatch.setattr(few_cases, "FEW", 0)
    for number in range(3):
        place.send("CLL", case=f"HL-{number}")
    place.send("AML", case="HL-9")
    reader = RecordReader(place.record)
    page = reader.worklist(CaseFilter(search="HL-"))
    assert (page.by_urgency["high"], page.capped, page.matching, page.exact) == (2, {"high"}, 3, False)
    page = reader.worklist(CaseFilter(search="HL-", urgency="critical"))
    assert (page.matching, page.exact) == (1, True)
    page = reader.worklist(CaseFilter(search="cll"))  # which no code and no name holds: a filter by class
    assert (page.matching, page.exact) == (3, True)


def test_a_record_of_version_6_is_given_counts_and_order_by_microscope(store):
    record = store.record()
    record.start()
    makers = [Maker("ward", "scope-1"), Maker("ward", "scope-2"), Maker("harbour", "scope-2")]
    for number, leading in enumerate(["AML", "CLL", "healthy"] * 3):
        make = makers[number % 3]
        frame = make.frame(f"HL-{number}")
        more = [makers[1].frame(f"HL-{number}")] if number == 6 else []
        RecordWriter(record).apply([frame, *more, *([make.diagnosis(frame, leading)] if number else [])])
    before = kept(record)
    record.stop()
    for statement in (
        "create table earlier as select device, case_id from case_devices",
        "drop table case_devices",
        "create table case_devices (device varchar(48), case_id integer, primary key (device, case_id))",
        "insert into case_devices select device, case_id from earlier",
        "drop table earlier",
        "drop table case_counts",
        "create table case_counts (site varchar(48), urgency varchar(10), status varchar(12), simulated boolean, cases integer)",
        "drop table device_counts",
        "update record_info set version = 6",
        "update alembic_version set version_num = '0006'",
    ):
        store.execute(statement)
    record.start()
    assert kept(record) == before
    assert RecordReader(record).worklist(CaseFilter(device="scope-2", site="ward")).matching == 4
    record.stop()
