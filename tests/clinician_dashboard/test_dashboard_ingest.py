"""Ingest through real brokers: order, repeats, bad messages, restarts, and a record that cannot be written."""

import sqlite3
from datetime import UTC, datetime, timedelta
from unittest.mock import Mock

import pytest

from broker_config.fleet_messages import WorkerState
from broker_config.messages import ModelIdentity, Quality
from broker_config.topics import Topics
from clinician_dashboard import ingest as ingest_module
from clinician_dashboard import intake as intake_module
from clinician_dashboard.metrics import Metrics


@pytest.fixture
def place(any_broker, tmp_path, desk, far_side):
    """A running desk and a far side, through each broker in turn."""
    with (
        desk(any_broker.port, tmp_path / "desk", protocol="3.1.1") as running,
        far_side(any_broker.port, protocol="3.1.1") as far,
    ):
        yield running, far


def test_frames_and_diagnoses_are_joined_in_either_order_and_receipted_once_each(place, make, eventually):
    desk, far = place
    first, second, alone = make.frame(), make.frame(), make.frame()
    far.send(first, make.diagnosis(first))
    far.send(make.diagnosis(second), second)
    far.send(alone)
    eventually(lambda: desk.summary()["recorded"] == 2 and desk.summary()["frames"] == 3)
    eventually(lambda: sorted(far.recorded()) == sorted([first.frame_id, second.frame_id]))
    summary = desk.summary()
    assert (summary["pending_frames"], summary["duplicates"], summary["cases"]) == (1, 0, 1)
    assert summary["latency_ms"]["p50"] > 0
    assert summary["model"] == "resnet34-test 1.0.0"
    case = desk.http.get("/api/v1/cases/HL-0001").json()
    assert (case["urgency"], case["waiting"], case["result"]["leading"]) == ("critical", 1, "AML")
    assert len(case["frames"]) == 3

    # The same again: one row, a counter, and a receipt for the frame that is recorded.
    far.send(first, make.diagnosis(first), alone)
    eventually(lambda: desk.summary()["redelivered"] == 3)
    eventually(lambda: far.recorded().count(first.frame_id) == 2)
    assert alone.frame_id not in far.recorded()
    assert desk.summary()["recorded"] == 2

    # A second model's answer is a second row of the same frame.
    other = ModelIdentity(name="densenet121", version="1", weights_sha256="b" * 64)
    far.send(make.diagnosis(first, "ALL", model=other))
    eventually(lambda: len(desk.http.get(f"/api/v1/frames/{first.frame_id}").json()["diagnoses"]) == 2)
    assert desk.summary()["duplicates"] == 0

    # The same image under another frame id is what a clinician would see twice, and is counted as such.
    twice = make.frame(image=first.image)
    far.send(twice, make.diagnosis(twice))
    eventually(lambda: desk.summary()["recorded"] == 3)
    assert desk.summary()["duplicates"] == 1


def test_other_content_under_a_known_frame_id_is_refused_and_counted(place, make, eventually):
    desk, far = place
    frame = make.frame()
    far.send(frame, make.diagnosis(frame))
    eventually(lambda: desk.summary()["recorded"] == 1)
    far.send(make.frame(frame_id=frame.frame_id))  # another image
    far.send(make.frame("HL-0666", frame_id=frame.frame_id, image=frame.image))  # another case
    stranger = ModelIdentity(name="other", version="1", weights_sha256="c" * 64)
    far.send(make.diagnosis(frame, image_sha256="d" * 64, model=stranger))
    # A broker may deliver one again, which is then counted again.
    known = eventually(lambda: (count := desk.summary()["conflicts"]) >= 3 and count)
    assert desk.http.get(f"/api/v1/frames/{frame.frame_id}").json()["image_sha256"] == frame.image_sha256
    assert desk.summary()["cases"] == 1
    # Sending it again would not help, so the edge is told, and parks it for a person.
    refused = eventually(lambda: [one for one in far.receipts if one.status == "rejected"])
    assert {(one.frame_id, one.by) for one in refused} == {(frame.frame_id, "dashboard")}
    assert "the first stays" in refused[0].reason
    # A diagnosis of another image that came first does not keep the true one out.
    late = make.frame()
    far.send(make.diagnosis(late, image_sha256="d" * 64), late)
    eventually(lambda: desk.summary()["conflicts"] > known)
    far.send(make.diagnosis(late))
    eventually(lambda: desk.summary()["recorded"] == 2)


def test_malformed_messages_are_counted_by_code_and_stop_nothing(place, make, eventually):
    desk, far = place
    frame = make.frame()
    frames, clinician = (
        far.topics.frame("ward", "scope-1", "routine"),
        far.topics.diagnosis("ward", "scope-1"),
    )
    bad = make.diagnosis(frame).model_dump_json()
    far.raw(frames, b"not cbor \xff")
    far.raw(clinician, b"{nonsense")
    far.raw(clinician, b"[]")
    far.raw(clinician, bad.replace('"schema_version":1', '"schema_version":99').encode())
    far.raw(clinician, bad.replace('"prediction":"AML"', '"prediction":"FLU"').encode())
    far.raw(clinician, b'{"reasons": ["' + b"x" * 1_000_100 + b'"]}')
    far.raw(far.topics.diagnosis("other", "scope"), bad.encode())
    far.raw("hemolink/v1/ward/scope-1/state", b"\x00")
    far.send(frame.model_copy(update={"image_sha256": "e" * 64, "frame_id": "f" * 32}))
    far.send(frame, make.diagnosis(frame))
    eventually(lambda: desk.summary()["recorded"] == 1)
    page = desk.http.get("/health").text
    for code in (
        "not_cbor",
        "not_json",
        "not_a_map",
        "unknown_version",
        "invalid_field",
        "too_large",
        "topic_mismatch",
    ):
        assert f"<code>{code}</code>" in page
    assert "<code>image_hash_mismatch</code>" in page
    assert desk.http.get("/readyz").status_code == 200


def test_a_message_that_breaks_the_writer_stops_no_other(place, make, eventually, monkeypatch):
    desk, far = place
    store = desk.dashboard._record.images
    put = store.put
    poison, fine = make.frame(), make.frame()

    def picky(image, sha256):
        if image == poison.image:
            raise ValueError("a fault that nobody thought of")
        return put(image, sha256)

    monkeypatch.setattr(store, "put", picky)
    far.send(poison, fine, make.diagnosis(fine))
    eventually(lambda: far.recorded() == [fine.frame_id])
    assert "<code>unstorable</code>" in desk.http.get("/health").text
    assert desk.http.get("/readyz").status_code == 200


def test_a_restart_keeps_what_was_waiting(mosquitto_broker, tmp_path, desk, far_side, make, eventually):
    directory = tmp_path / "desk"
    frame, orphan = make.frame(), make.frame()
    with far_side(mosquitto_broker.port, protocol="5") as far:
        with desk(mosquitto_broker.port, directory, protocol="5") as running:
            far.send(frame, make.diagnosis(orphan))
            eventually(lambda: running.summary()["pending"] == 2)
        # Published while the dashboard is away: the broker keeps it for the kept session.
        far.send(make.diagnosis(frame), orphan)
        with desk(mosquitto_broker.port, directory, protocol="5") as running:
            eventually(lambda: running.summary()["recorded"] == 2)
            eventually(lambda: set(far.recorded()) == {frame.frame_id, orphan.frame_id})
            assert running.summary()["pending"] == 0
            image = running.http.get(f"/api/v1/frames/{frame.frame_id}/image")
            assert image.content == frame.image


def test_a_locked_database_delays_and_loses_nothing(place, tmp_path, make, eventually):
    desk, far = place
    frame = make.frame()
    far.send(frame)
    eventually(lambda: desk.summary()["frames"] == 1)
    holder = sqlite3.connect(tmp_path / "desk" / "record.sqlite")
    holder.execute("begin immediate")
    far.send(make.diagnosis(frame))
    eventually(lambda: desk.http.get("/readyz").status_code == 503)
    assert "locked" in desk.http.get("/readyz").text
    assert "Not ready" in desk.http.get("/health").text
    assert far.recorded() == []
    holder.rollback()
    holder.close()
    eventually(lambda: far.recorded() == [frame.frame_id])
    assert desk.http.get("/readyz").status_code == 200


def test_a_full_disk_delays_and_loses_nothing(place, make, eventually, monkeypatch):
    desk, far = place
    store = desk.dashboard._record.images
    put = store.put

    def full(image, sha256):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "put", full)
    frame = make.frame()
    far.send(frame, make.diagnosis(frame))
    eventually(lambda: "No space left" in desk.http.get("/readyz").text)
    assert desk.summary()["frames"] == 0
    monkeypatch.setattr(store, "put", put)
    eventually(lambda: far.recorded() == [frame.frame_id])


def test_what_finds_the_queue_full_holds_no_place_in_the_brokers_window(make, monkeypatch):
    """Unacknowledged it would narrow the window (MQTT 5 receive maximum) for as long as the connection lasts."""
    monkeypatch.setattr(intake_module, "MAX_QUEUED_BYTES", 10)
    ingest = ingest_module.Ingest(
        topics=Topics(), writer=Mock(), on_applied=lambda applied: None, metrics=Metrics()
    )
    message = Mock(topic=Topics().frame("ward", "scope-1", "routine"), payload=b"x" * 11)
    ingest.receive(message)
    message.acknowledge.assert_called_once_with()
    assert ingest.state.overflow == 1
    assert ingest.state.queued_bytes == 0


def test_dead_letters_need_a_person_until_the_frame_is_recorded(place, make, eventually):
    desk, far = place
    frame, unread = make.frame(), make.frame()
    far.send(frame, make.rejection(frame), make.rejection(frame))
    far.send(make.rejection(unread, frame_id=None, case=None, code="not_cbor"))
    eventually(lambda: desk.summary()["rejected"] == 2)
    assert desk.summary()["pending"] == 0
    page = desk.http.get("/attention").text
    assert "corrupt_image" in page
    assert "not_cbor" in page
    assert f"/api/v1/frames/{frame.frame_id}/image" in page
    far.send(make.diagnosis(frame))
    eventually(lambda: desk.summary()["rejected"] == 1)
    assert "corrupt_image" not in desk.http.get("/attention").text


def test_a_late_will_cannot_mark_a_live_device_dead(place, make, eventually):
    desk, far = place
    far.send(make.state(birth=7, captured=5), make.state(birth=6, presence="offline"))
    frame = make.frame()
    far.send(frame)  # after the states, so that both have been read when it is there
    eventually(lambda: desk.summary()["frames"] == 1)
    page = desk.http.get("/fleet").text
    assert 'class="presence online"' in page
    assert "Late states ignored" in desk.http.get("/health").text
    far.send(make.state(birth=7, presence="offline"))
    eventually(lambda: 'class="presence offline"' in desk.http.get("/fleet").text)
    worker = WorkerState(worker="w1", pool="main", presence="online", birth=1, at=datetime.now(UTC))
    far.send(worker)
    eventually(lambda: "<h3>w1</h3>" in desk.http.get("/fleet").text)


def test_what_waits_is_bounded_and_the_oldest_goes_first(
    embedded_broker, tmp_path, desk, far_side, make, eventually
):
    limits = {"pending_frames": 2, "pending_diagnoses": 1}
    frames = [make.frame() for _ in range(4)]
    with (
        desk(embedded_broker.port, tmp_path / "desk", protocol="3.1.1", limits=limits) as running,
        far_side(embedded_broker.port, protocol="3.1.1") as far,
    ):
        far.send(*frames)
        eventually(lambda: running.http.get(f"/api/v1/frames/{frames[3].frame_id}").status_code == 200)
        assert running.http.get(f"/api/v1/frames/{frames[0].frame_id}").status_code == 404
        assert running.summary()["pending_frames"] == 2
        images = running.dashboard._record.images
        assert not images.path(frames[0].image_sha256).exists()
        far.send(frames[0], make.diagnosis(frames[0]))  # the edge sends it again, and it is recorded then
        eventually(lambda: running.summary()["recorded"] == 1)


def test_the_worklist_is_by_urgency_then_stat_then_age(place, make, another, eventually):
    desk, far = place
    start = datetime.now(UTC) - timedelta(hours=1)
    plan = [
        ("HL-routine", "healthy", "report", 0, "routine"),
        ("HL-refer", "healthy", "refer", 1, "routine"),
        ("HL-high", "CLL", "report", 2, "routine"),
        ("HL-acute-late", "ALL", "report", 4, "routine"),
        ("HL-acute-early", "AML", "report", 3, "routine"),
        ("HL-acute-stat", "AML", "report", 5, "stat"),
    ]
    for case, leading, decision, minute, priority in plan:
        frame = make.frame(case, captured_at=start + timedelta(minutes=minute), priority=priority)
        far.send(frame, make.diagnosis(frame, leading, decision=decision, priority=priority))
    elsewhere = another("clinic", "scope-9")
    twin = elsewhere.frame("HL-high", quality=Quality(flags=("soft_focus",)))
    far.send(twin, elsewhere.diagnosis(twin, "CML"))
    eventually(lambda: desk.summary()["recorded"] == 7)
    answer = desk.http.get("/api/v1/cases").json()
    order = [case["code"] for case in answer["cases"]]
    assert order[:3] == ["HL-acute-stat", "HL-acute-early", "HL-acute-late"]
    assert order[3:5] == ["HL-high", "HL-high"]
    assert order[5:] == ["HL-refer", "HL-routine"]
    assert answer["by_urgency"] == {"critical": 3, "high": 2, "refer": 1, "routine": 1, "waiting": 0}
    found = desk.http.get("/api/v1/cases", params={"q": "clinic"}).json()
    assert [case["site"] for case in found["cases"]] == ["clinic"]
    assert desk.http.get("/api/v1/cases", params={"q": "%"}).json()["matching"] == 0
    # Two sites may use one code: the cases stay apart, and the API asks which is meant.
    assert desk.http.get("/api/v1/cases/HL-high").status_code == 409
    assert (
        desk.http.get("/api/v1/cases/HL-high", params={"site": "clinic"}).json()["result"]["leading"] == "CML"
    )


def test_a_record_of_a_newer_release_and_a_damaged_one_are_refused(tmp_path):
    from clinician_dashboard.errors import RecordError  # noqa: PLC0415
    from clinician_dashboard.record import Record  # noqa: PLC0415

    path = tmp_path / "record.sqlite"
    record = Record(f"sqlite:///{path}", tmp_path)
    record.start()
    record.stop()
    with sqlite3.connect(path) as connection:
        connection.execute("update record_info set version = 99")
    connection.close()
    with pytest.raises(RecordError, match="version 99"):
        record.start()
    path.write_bytes(b"this is no database at all " * 100)
    with pytest.raises(RecordError, match="bring the last backup back"):
        record.start()


def test_every_message_is_counted_with_its_outcome(
    mosquitto_broker, tmp_path, desk, far_side, make, eventually
):
    frame, other = make.frame(), make.frame()
    with (
        desk(mosquitto_broker.port, tmp_path / "desk", protocol="5") as running,
        far_side(mosquitto_broker.port, protocol="5") as far,
    ):
        far.send(
            frame, frame, make.diagnosis(frame), make.frame(frame_id=frame.frame_id), make.state(birth=3)
        )
        far.send(make.state(birth=2, presence="offline"), make.rejection(other), make.rejection(other))
        far.raw(far.topics.diagnosis("ward", "scope-1"), b"{nonsense")
        far.raw(far.topics.state("ward", "scope-1"), b"")
        far.raw(far.topics.diagnosis("other", "scope"), make.diagnosis(frame).model_dump_json().encode())
        expected = {
            ("frame", "taken"): 1,
            ("frame", "redelivered"): 1,
            ("frame", "conflict"): 1,
            ("diagnosis", "taken"): 1,
            ("diagnosis", "not_json"): 1,
            ("diagnosis", "topic_mismatch"): 1,
            ("state", "taken"): 1,
            ("state", "stale"): 1,
            ("state", "empty"): 1,
            ("rejected", "taken"): 1,
            ("rejected", "redelivered"): 1,
        }

        def counted():
            samples = running.dashboard._metrics.messages.collect()[0].samples
            return {
                (one.labels["kind"], one.labels["outcome"]): one.value
                for one in samples
                if one.name.endswith("_total")
            }

        eventually(lambda: sum(counted().values()) == sum(expected.values()))
        assert counted() == expected


def test_stat_frames_go_first_and_devices_take_turns():
    intake = intake_module.Intake()
    for number in range(6):
        intake.put(Mock(payload=b"xx", name_=f"a{number}"), lane="ward/a")
    for number in range(2):
        intake.put(Mock(payload=b"xx", name_=f"b{number}"), lane="ward/b")
    for number in range(5):
        intake.put(Mock(payload=b"xx", name_=f"stat{number}"))
    batch = intake.take(4, 1000, timeout_s=0)
    assert [one.name_ for one in batch] == ["stat0", "stat1", "stat2", "a0"]
    batch += intake.take(8, 1000, timeout_s=0)
    assert [one.name_ for one in batch[4:]] == ["stat3", "stat4", "b0", "a1", "b1", "a2", "a3", "a4"]
    assert intake.size_bytes == 26
    intake.release(batch)
    assert (len(intake), intake.size_bytes) == (1, 2)
    assert intake.put(Mock(payload=b"x" * intake_module.MAX_QUEUED_BYTES)) is False
