"""Quality over time, the stop switch of a model version, and the case messages that follow."""

import pytest

from broker_config.codec import decode
from broker_config.desk_messages import CaseUpdate
from broker_config.device_messages import DeviceState
from broker_config.fleet_messages import WorkerState
from broker_config.messages import ModelIdentity, now
from broker_config.session import Session, Subscription
from broker_config.settings import BrokerSettings
from broker_config.topics import Topics
from clinician_dashboard.record import Record, RecordReader, RecordWriter
from tests.clinician_dashboard.desk.maker import WEIGHTS

OTHER = "b" * 64


@pytest.fixture
def place(embedded_broker, tmp_path, desk, far_side):
    with (
        desk(embedded_broker.port, tmp_path / "desk", protocol="3.1.1") as running,
        far_side(embedded_broker.port, protocol="3.1.1") as far,
    ):
        yield running, far


@pytest.fixture
def heard(embedded_broker):
    """The case messages that a subscriber gets."""
    got = []
    follower = Session(
        BrokerSettings(port=embedded_broker.port, protocol="3.1.1"),
        client_id="case-follower",
        subscriptions=[Subscription(Topics().all_of("case"))],
        on_message=lambda message: got.append((message.topic, decode(message.payload, CaseUpdate))),
    )
    follower.start()
    assert follower.wait_connected(10)
    yield got
    follower.stop()


def test_a_stopped_model_version_is_not_used_and_can_be_started_again(place, heard, make, eventually):
    desk, far = place
    other = ModelIdentity(name="second", version="2.0", weights_sha256=OTHER)
    frames = [make.frame("HL-1") for _ in range(3)]
    for frame in frames:
        far.send(frame, make.diagnosis(frame, "CLL"))
    last = make.frame("HL-1")
    far.send(last, make.diagnosis(last, "CML", model=other))
    eventually(lambda: desk.summary()["recorded"] == 4)
    case = desk.http.get("/api/v1/cases/HL-1").json()
    assert (case["result"]["leading"], case["result"]["counted"], case["referred"]) == ("CLL", 4, 0)

    # who may, and what is asked for
    stop = f"/api/v1/models/{WEIGHTS}/stop"
    for role in ("technician", "haematologist", "auditor", "admin"):
        assert desk.sign_in(role).post(stop, params={"reason": "no"}).status_code == 403
    assert desk.http.post(stop, params={"reason": "  "}).status_code == 409
    assert desk.http.post(f"/api/v1/models/{'c' * 64}/stop", params={"reason": "x"}).status_code == 409
    said = "<script>alert(1)</script> wrong on bench 3"
    assert desk.http.post(stop, params={"reason": said}).json()["stopped"] is True
    assert "already" in desk.http.post(stop, params={"reason": "again"}).json()["error"]

    def result():
        return desk.http.get("/api/v1/cases/HL-1").json()["result"]

    eventually(lambda: result()["stopped"] == 3, what="the case follows")
    stopped = desk.http.get("/api/v1/cases/HL-1").json()
    assert (stopped["result"]["leading"], stopped["result"]["counted"], stopped["referred"]) == ("CML", 1, 3)
    assert "3 frames were read by a model version that has been stopped" in stopped["result"]["reasons"][0]
    assert [one["diagnoses"][0]["stopped_model"] for one in stopped["frames"]] == [True, True, True, False]
    shown = desk.http.get("/cases/ward/HL-1").text
    assert [shown.count(f'data-state="{state}"') for state in ("refer", "report")] == [3, 1]
    assert shown.count("stopped model: not to be used") == 3
    assert "Referred <b>3</b>" in shown
    viewed = [desk.http.get(f"/fragments/frames/{one.frame_id}").text for one in (frames[0], last)]
    assert ["STOPPED MODEL" in one for one in viewed] == [True, False]
    later = make.frame("HL-2")
    far.send(later, make.diagnosis(later, "AML"))
    eventually(lambda: desk.summary()["recorded"] == 5)
    assert desk.http.get("/api/v1/cases/HL-2").json()["urgency"] == "refer"  # and not critical

    page = desk.http.get("/quality").raise_for_status().text
    assert "STOPPED" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page

    form = {"reason": "bench 3 was cleaned", "csrf": desk.http.headers["x-csrf-token"]}
    with desk.http.stream("GET", "/api/v1/events") as feed:
        lines = feed.iter_lines()
        assert "event: hello" in lines
        assert desk.http.post(f"/models/{WEIGHTS}/start", data=form).status_code == 303
        assert "event: critical" in lines  # HL-2 is critical now: its alert is shown without a reload
    eventually(
        lambda: result()["stopped"] == 0 and result()["leading"] == "CLL", what="the case follows again"
    )
    audit = desk.http.get("/api/v1/audit", params={"limit": 50})
    assert {"model.stop", "model.start"} <= {row["action"] for row in audit.json()["rows"]}
    eventually(lambda: heard and heard[-1][1].stopped == 0, what="the last word is told")
    topic, told = heard[-1]
    assert topic == "hemolink/v1/ward/scope-1/case"
    assert "HL" not in topic
    assert told.status == "preliminary"


def test_of_a_flood_one_message_a_second_and_the_last_word_are_told(place, heard, make, eventually):
    desk, far = place
    for _ in range(60):
        frame = make.frame("HL-1")
        far.send(frame, make.diagnosis(frame, "CLL"))
    eventually(lambda: desk.summary()["recorded"] == 60, within_s=30)
    eventually(lambda: heard and heard[-1][1].counted == 60, what="the last word is told")
    first, last = heard[0][1], heard[-1][1]
    took = (last.changed_at - first.changed_at).total_seconds()
    assert len(heard) <= took + 2
    assert [told.revision for _, told in heard] == sorted(told.revision for _, told in heard)
    assert set(last.shares) == {"healthy", "ALL", "AML", "CLL", "CML"}


def test_rates_have_intervals_and_are_the_same_from_sums_as_from_a_recount(store, make):
    from sqlalchemy import select  # noqa: PLC0415

    from clinician_dashboard.record.desk_tables import DayRow  # noqa: PLC0415
    from clinician_dashboard.record.sums import recount_days  # noqa: PLC0415

    record: Record = store.record()
    record.start()
    try:
        writer = RecordWriter(record)
        for number in range(40):
            frame = make.frame(f"HL-{number % 4}")
            refer = {"decision": "refer", "reasons": ("prediction_set: two",)} if number % 5 == 0 else {}
            writer.apply([frame, make.diagnosis(frame, "CLL", **refer)])
        day = record_day(record)
        quality = RecordReader(record).quality(by="device", days=30, today=day)
        (group,) = quality.groups
        referral = group.whole.measure("referral")
        assert (referral.value, referral.number) == (0.2, 40)
        assert (round(referral.low, 3), round(referral.high, 3)) == (0.105, 0.348)  # Wilson, 8 of 40
        assert quality.whole.measure("override") is None

        def sums():
            with record.session() as session:
                return {
                    (row.day, row.site, row.device, row.weights_sha256): (
                        *(row.frames, row.referred, row.unlike),
                        *(round(row.top_sum, 6), round(row.ood_squares, 6), round(row.quality_sum, 6)),
                    )
                    for row in session.scalars(select(DayRow))
                }

        before = sums()
        with record.transaction() as session:
            recount_days(session)
        assert sums() == before
    finally:
        record.stop()


def record_day(record):
    from datetime import UTC, datetime  # noqa: PLC0415

    return datetime.now(UTC).date()


def test_a_fleet_of_a_thousand_shows_its_last_frames_and_who_serves_a_stopped_model(place, make, eventually):
    desk, far = place
    writer = RecordWriter(desk.dashboard._record)
    frame = make.frame("HL-1")
    model = ModelIdentity(name="first", version="1.0", weights_sha256=WEIGHTS)
    far.send(
        make.state(),
        WorkerState(worker="worker-1", presence="online", birth=1, at=now(), pool="p", model=model),
        frame,
        make.diagnosis(frame),
    )
    eventually(lambda: desk.summary()["recorded"] == 1)
    writer.apply(
        [
            DeviceState(
                site="hall", device=f"cam-{number:04d}", presence="online", birth=1, at=now(), camera="c"
            )
            for number in range(999)
        ]
    )
    desk.http.post(f"/api/v1/models/{WEIGHTS}/stop", params={"reason": "stain"}).raise_for_status()
    last = desk.http.get("/fleet", params={"page": 9}).raise_for_status().text
    assert "Page 9 of 9" in last
    assert "Last frame" in last  # ward comes after hall
    first = desk.http.get("/fleet").raise_for_status().text
    assert "STOPPED MODEL" in first
    assert "Last answer" in first
    assert desk.http.get("/api/v1/fleet", params={"limit": 1000}).json()["device_count"] == 1000
