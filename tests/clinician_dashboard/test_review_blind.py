"""Reading blind, at every door: nothing tells what the model or another reader says, and no alert is delayed by it."""

from datetime import UTC, datetime, timedelta

import pytest

from broker_config.desk_messages import Alert, CaseUpdate
from broker_config.session import Session, Subscription
from broker_config.settings import BrokerSettings
from broker_config.topics import Topics
from clinician_dashboard.record import RecordReader, RecordWriter
from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.record.worklist import CaseFilter
from clinician_dashboard.review.settings import ReviewSettings
from tests.clinician_dashboard.desk.maker import Maker, jpeg


def do(client, act, *, code="HL-1", **body):
    return client.post(f"/api/v1/cases/ward/{code}/{act}", json=body)


def codes(client, address="/api/v1/cases"):
    return [case["code"] for case in client.get(address).raise_for_status().json()["cases"]]


def blind(desk, name):
    reader = desk.sign_in("haematologist", name=name)
    reader.post("/reading", data={"blind": "yes", "csrf": reader.headers["x-csrf-token"]})
    return reader


def words(client, path):
    return " ".join(client.get(path).text.split())


def test_a_readers_suspicion_is_told_on_every_channel_and_kept_from_a_blind_second_reader(
    place, send, eventually, embedded_broker
):
    desk, _far = place
    heard = {"alert": [], "case": []}
    follower = Session(
        BrokerSettings(port=embedded_broker.port, protocol="3.1.1"),
        client_id="follower",
        subscriptions=[Subscription(Topics().all_of("alert")), Subscription(Topics().all_of("case"))],
        on_message=lambda message: heard[message.topic.rsplit("/", 1)[1]].append(message.payload),
    )
    follower.start()
    assert follower.wait_connected(10)
    try:
        send("healthy", code="HL-0")
        send("healthy")
        anna = desk.sign_in("haematologist", name="anna")
        assert codes(anna) == ["HL-0", "HL-1"]
        do(anna, "claim")
        do(anna, "conclude", conclusion="AML", reason="blasts_missed").raise_for_status()
        assert codes(anna) == ["HL-1", "HL-0"]
        for path in ("/", "/cases/ward/HL-1"):
            assert "raised by a reader" in anna.get(path).text
        assert "Acute leukaemia suspected by a reader" in anna.get("/critical").text
        eventually(lambda: heard["alert"], what="the alert is told over MQTT")
        assert Alert.model_validate_json(heard["alert"][0]).cause == "reader"
        told = eventually(
            lambda: [
                one for one in map(CaseUpdate.model_validate_json, heard["case"]) if one.raised_by_reader
            ],
            what="the case's new place is told",
        )
        assert (told[0].case, told[0].urgency, told[0].leading) == ("HL-1", "critical", "healthy")
    finally:
        follower.stop()

    ben = blind(desk, "ben")
    tells = ("raised by a reader", "by a reader", "a reader concludes", "suspected", "Auer")
    doors = ("/", "/critical", "/cases/ward/HL-1", "/fragments/worklist", "/fragments/cases/ward/HL-1")

    def told_to_ben():
        found = [(door, tell) for door in doors for tell in tells if tell in ben.get(door).text]
        shown = ben.get("/api/v1/cases/ward/HL-1/review").json()
        assert (shown["critical"], shown["gates"], shown["second_reading_needed"]) == (None, [], False)
        return found

    assert told_to_ben() == []
    assert "1 case waits to be read at once" in words(ben, "/")
    do(ben, "impression", conclusion="CLL").raise_for_status()
    assert told_to_ben() == []  # the model's answer is shown now, and the first reader's word is not
    (shown,) = [one for one in ben.get("/api/v1/cases").json()["cases"] if one["code"] == "HL-1"]
    assert (shown["urgency"], shown["raised_by_reader"]) == ("routine", False)
    do(ben, "conclude", conclusion="CLL", reason="maturation").raise_for_status()
    assert "raised by a reader" in ben.get("/cases/ward/HL-1").text


def test_a_blind_readers_impression_waits_for_the_conclusion_of_another_blind_reader(place, send):
    desk, _far = place
    send("CLL")
    anna, ben = blind(desk, "anna"), blind(desk, "ben")
    do(anna, "impression", conclusion="AML", comment="Auer rods seen").raise_for_status()
    do(ben, "impression", conclusion="CLL").raise_for_status()
    shown = ben.get("/cases/ward/HL-1").text
    assert "AI preliminary result" in shown
    assert "Auer rods seen" not in shown
    assert "The first reader has concluded" not in shown
    told = ben.get("/api/v1/cases/ward/HL-1/review").json()["opinions"]
    assert [one["reader"] for one in told] == ["ben"]
    do(ben, "claim").raise_for_status()
    do(ben, "conclude", conclusion="CLL").raise_for_status()
    assert "Auer rods seen" in ben.get("/cases/ward/HL-1").text


def test_the_list_of_a_blind_reader_is_by_arrival_and_no_filter_tells(place, send):
    desk, _far = place
    send("healthy", code="HL-1")
    send("AML", code="HL-2")
    send("CLL", code="HL-3")
    seeing, reader = desk.sign_in("haematologist", name="anna"), blind(desk, "ben")
    assert codes(seeing) == ["HL-2", "HL-3", "HL-1"]
    assert codes(reader) == ["HL-1", "HL-2", "HL-3"]
    for narrowed in ("urgency=critical", "q=hl", "urgency=routine&q=HL"):
        assert codes(reader, f"/api/v1/cases?{narrowed}") == ["HL-1", "HL-2", "HL-3"], narrowed
    assert codes(reader, "/api/v1/cases?q=AML") == []
    assert codes(seeing, "/api/v1/cases?q=AML") == ["HL-2"]
    assert reader.get("/api/v1/cases").json()["by_urgency"] == {}
    page = reader.get("/").text
    for urgency in ("Critical", "High", "Routine"):
        assert f"{urgency} <b>" not in page
    assert "you read blind" in page


def test_an_alert_reaches_a_blind_reader_at_once_and_is_named_on_asking_or_when_it_is_escalated(
    embedded_broker, tmp_path, desk, far_side, make, eventually
):
    settings = ReviewSettings(acknowledge_minutes=0.2, blind_first=True)
    with (
        desk(embedded_broker.port, tmp_path / "desk", protocol="3.1.1", review=settings) as running,
        far_side(embedded_broker.port, protocol="3.1.1") as far,
    ):
        frame = make.frame("HL-7")
        far.send(frame, make.diagnosis(frame, "AML"))
        reader = running.sign_in("haematologist")
        eventually(lambda: "1 case waits to be read at once" in words(reader, "/fleet"), what="it is told")
        assert "HL-7" not in reader.get("/fleet").text
        assert "HL-7" not in reader.get("/critical").text
        named = reader.get("/critical?named=yes").text
        assert "/cases/ward/HL-7/acknowledge" in named
        assert "suspected by" not in named
        eventually(
            lambda: "HL-7" in reader.get("/fleet").text, within_s=30, what="escalated, it is named to all"
        )
        shown = reader.get("/cases/ward/HL-7").text
        assert "Critical finding: read the case at once" in shown
        assert "Acute promyelocytic" not in shown
        do(reader, "acknowledge", code="HL-7").raise_for_status()
        assert "HL-7" not in reader.get("/fleet").text


@pytest.fixture
def record(store):
    record = store.record()
    record.start()
    writer = RecordWriter(record)
    makers = [Maker("ward", "scope-1"), Maker("harbour", "cam-9")]
    began = datetime.now(UTC)
    for number in range(40):
        make = makers[number % 2]
        frame = make.frame(
            f"HL-{number:03d}",
            image=jpeg(1),
            priority="stat" if number % 7 == 0 else "routine",
            captured_at=began - timedelta(hours=(number * 17) % 40 // 2),  # some at one moment
        )
        answer = [make.diagnosis(frame, ("AML", "CLL", "healthy")[number % 3])] if number % 5 else []
        writer.apply([frame, *answer])
    with record.transaction() as session:
        for case in session.query(CaseRow):
            if case.id % 6 == 0:
                case.status, case.signed_at = "signed", began
    yield record
    record.stop()


def test_pages_by_arrival_hold_every_case_once_in_both_directions(record):
    reader = RecordReader(record)
    with record.session() as session:
        rows = session.query(CaseRow).all()
    for wanted in (CaseFilter(), CaseFilter(status="open"), CaseFilter(site="ward", search="hl-0")):
        expected = [
            row.code
            for row in sorted(
                rows, key=lambda row: (row.status == "signed", not row.stat, row.opened_at, row.id)
            )
            if (not wanted.status or row.status != "signed") and wanted.site in ("", row.site)
        ]
        pages, after = [], None
        while True:
            page = reader.worklist(wanted, limit=7, after=after, by_arrival=True)
            assert (page.matching, page.exact) == (len(expected), True)
            pages.append([case.code for case in page.cases])
            after = page.following
            if after is None:
                break
        assert [code for page in pages for code in page] == expected
        back, before = [], page.previous
        while before is not None:
            page = reader.worklist(wanted, limit=7, before=before, by_arrival=True)
            back.insert(0, [case.code for case in page.cases])
            before = page.previous
        assert [*back, pages[-1]] == pages
        assert [
            case.code for case in reader.worklist(wanted, limit=5, offset=3, by_arrival=True).cases
        ] == expected[3:8]
