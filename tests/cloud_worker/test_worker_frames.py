"""Frames in, diagnoses out, over real brokers."""

import json
import urllib.request

import pytest

pytestmark = pytest.mark.mosquitto


def get(worker, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.monitor_port}{path}", timeout=5) as answer:
        return answer.read().decode()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_frame_becomes_a_diagnosis_and_a_receipt(mosquitto_broker, fakes, start_worker, protocol):
    with fakes.FarEnd(mosquitto_broker.port, protocol=protocol) as far:
        pool = "main" if protocol == "5" else None
        running = start_worker(mosquitto_broker.port, protocol=protocol, pool=pool)
        frame = far.send(
            fakes.make_frame(quality={"focus": 3.0, "focus_threshold": 8.0, "flags": ["soft_focus"]})
        )
        far.wait(lambda: far.receipts and far.diagnoses)
        diagnosis = far.diagnoses[0]
        assert (diagnosis.frame_id, diagnosis.case, diagnosis.image_sha256) == (
            frame.frame_id,
            frame.case,
            frame.image_sha256,
        )
        assert diagnosis.model == fakes.IDENTITY
        assert diagnosis.simulated
        assert diagnosis.timings.decode_ms > 0
        # the model would have reported; the frame's own quality refers
        assert diagnosis.decision == "refer"
        assert diagnosis.reasons == (
            "quality: the microscope noticed soft focus in this frame (focus 3.0, limit 8.0).",
        )
        assert far.statuses(frame) == ["diagnosed"]
        assert json.loads(get(running.worker, "/status"))["diagnosed"] == 1
        assert 'hemolink_worker_stage_seconds_count{stage="decode"} 1.0' in get(running.worker, "/metrics")
        assert get(running.worker, "/readyz") == "serving fake with fake-fp32\n"


def test_the_embedded_broker_serves_one_worker(embedded_broker, fakes, start_worker):
    with fakes.FarEnd(embedded_broker.port, protocol="3.1.1") as far:
        start_worker(embedded_broker.port, protocol="3.1.1")
        frames = [far.send(fakes.make_frame(value)) for value in range(30, 60)]
        far.send_raw(b"\xff not cbor", frame_id="f" * 32)
        far.wait(lambda: all(map(far.statuses, frames)) and far.rejections)
        assert all(far.statuses(frame) == ["diagnosed"] for frame in frames)
        assert {one.frame_id for one in far.diagnoses} == {frame.frame_id for frame in frames}
        assert far.rejections[0].code == "not_cbor"


def test_batches_form_by_size_and_stat_goes_first(mosquitto_broker, fakes, start_worker, until):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        running = start_worker(mosquitto_broker.port, max_batch_size=4, receive_maximum=40, decoders=1)
        model = running.model
        model.gate.clear()
        far.send(fakes.make_frame(1))
        assert model.entered.wait(10)
        for value in range(20, 34):
            far.send(fakes.make_frame(value))
        until(lambda: len(running.worker._pipeline._ready) == 8)  # two batches of routine frames: all places
        far.send(fakes.make_frame(200, priority="stat"))
        far.send(fakes.make_frame(201, priority="stat"))
        until(lambda: running.worker.status()["taken"] == 17)
        until(lambda: len(running.worker._pipeline._ready) == 10)  # those, and the stat ones above the bound
        model.gate.set()
        far.wait(lambda: len(far.diagnoses) == 17)
        assert model.batches[:2] == [[1], [200, 201, 20, 21]]
        assert max(len(batch) for batch in model.batches) == 4
        assert [value for batch in model.batches[1:] for value in batch if value < 200] == list(range(20, 34))


def test_a_lone_frame_does_not_wait_for_a_full_batch(mosquitto_broker, fakes, start_worker):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        running = start_worker(mosquitto_broker.port, max_batch_size=64, max_wait_ms=30)
        far.send(fakes.make_frame(5))
        far.wait(lambda: far.diagnoses)
        assert running.model.batches == [[5]]


def test_two_workers_of_a_pool_share_the_frames(mosquitto_broker, fakes, start_worker):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        for name in ("w1", "w2"):
            start_worker(mosquitto_broker.port, name=name, pool="main")
        frames = [far.send(fakes.make_frame(value)) for value in range(20, 40)]
        far.wait(lambda: len(far.receipts) >= 20)
        assert sorted(one.frame_id for one in far.diagnoses) == sorted(frame.frame_id for frame in frames)
        assert {one.worker for one in far.diagnoses} == {"w1", "w2"}


def test_presence_tells_the_model_and_the_end(mosquitto_broker, fakes, start_worker):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        running = start_worker(mosquitto_broker.port, pool="main", heartbeat_s=0.05)
        far.wait(lambda: len(far.states) >= 3)
        first = far.states[0]
        assert (first.presence, first.pool, first.birth, first.model) == ("online", "main", 1, fakes.IDENTITY)
        running.worker.stop()
        running.stopped = True
        far.wait(lambda: far.states[-1].presence == "offline")
        assert "draining" in {state.presence for state in far.states}
        start_worker(mosquitto_broker.port, pool="main")
        far.wait(lambda: far.states[-1].presence == "online" and far.states[-1].birth == 2)


def test_a_diagnosis_that_nobody_hears_settles_nothing(mosquitto_broker, fakes, start_worker, until):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        running = start_worker(mosquitto_broker.port)
        frame = fakes.make_frame(device="scope-2")
        far.session.stop()
        edge = fakes.Session(
            fakes.BrokerSettings(port=mosquitto_broker.port),
            client_id="edge-only",
            subscriptions=[fakes.Subscription(far.topics.receipt("lab", "scope-2"))],
            on_message=far._take,
        )
        with edge:
            assert edge.wait_connected(5)
            edge.publish(fakes.publication(far.topics.frame("lab", "scope-2", "routine"), frame))
            until(lambda: running.worker.status()["diagnosed"] == 1)
            until(lambda: "hemolink_worker_unheard_total 1.0" in get(running.worker, "/metrics"))
            assert far.receipts == []
