"""A frame that comes again: while it is in hand, after its connection died, and from a kept session."""

import signal
import time

import pytest

from broker_config.delivery import publication
from broker_config.session import IncomingMessage
from broker_config.topics import TopicName
from cloud_worker.job import Job, Ledger

pytestmark = pytest.mark.mosquitto


def metric(worker, name):
    return worker.metrics.registry.get_sample_value(f"hemolink_worker_{name}_total")


def test_a_frame_in_hand_that_comes_again_is_worked_on_once_and_both_are_acknowledged(
    mosquitto_broker, fakes, start_worker, until
):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        running = start_worker(mosquitto_broker.port, receive_maximum=3)
        running.model.gate.clear()
        frame = fakes.make_frame(30)
        for _ in range(3):
            far.send(frame)
        until(lambda: metric(running.worker, "joined") == 2)
        running.model.gate.set()
        far.wait(lambda: far.statuses(frame) == ["diagnosed"])
        # All three are acknowledged, or a window of three would let nothing more through.
        others = [far.send(fakes.make_frame(value)) for value in range(40, 50)]
        far.wait(lambda: all(far.statuses(one) == ["diagnosed"] for one in others))
        assert sum(batch.count(30) for batch in running.model.batches) == 1
        assert len(far.diagnoses) == 11


def test_a_frame_whose_outcome_was_told_is_worked_on_and_told_again(mosquitto_broker, fakes, start_worker):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        start_worker(mosquitto_broker.port)
        frame = far.send(fakes.make_frame(30))
        far.wait(lambda: far.statuses(frame) == ["diagnosed"])
        far.send(frame)
        far.wait(lambda: far.statuses(frame) == ["diagnosed", "diagnosed"])
        assert [one.frame_id for one in far.diagnoses] == [frame.frame_id] * 2


def test_the_same_id_with_other_content_is_not_the_same_frame(fakes):
    ledger = Ledger()
    first, second = fakes.make_frame(30), fakes.make_frame(31)
    topic = "hemolink/v1/lab/scope-1/frame/routine"

    def message(frame):
        ready = publication(topic, frame)
        return IncomingMessage(topic, ready.payload, correlation_data=b"a" * 32)

    job = Job(message(first), TopicName("frame", "lab", "scope-1", "routine"))
    ledger.add(job)
    assert ledger.same(message(first)) is job
    assert ledger.same(message(second)) is None
    ledger.settle(job)
    assert ledger.same(message(first)) is None


def test_a_job_lapses_only_when_its_connection_is_gone_for_long(fakes):
    acknowledged = []
    old = IncomingMessage(
        "t", b"", received_at=time.monotonic() - 60, _acknowledge=lambda: acknowledged.append(1) or True
    )
    assert not Job(old, None, 1).lapse(connection=1, older_than_s=10)
    assert not Job(IncomingMessage("t", b""), None, 1).lapse(connection=2, older_than_s=10)
    joined = Job(old, None, 1)
    assert joined.join(IncomingMessage("t", b""), connection=2)
    assert not joined.lapse(connection=2, older_than_s=10)
    lapsed = Job(old, None, 1)
    assert lapsed.lapse(connection=2, older_than_s=10)
    assert not lapsed.join(IncomingMessage("t", b""), connection=2)
    assert acknowledged == []


def test_frames_that_waited_past_the_lease_with_their_connection_gone_are_left_to_the_edge(
    mosquitto_broker, fakes, start_worker, until
):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        running = start_worker(mosquitto_broker.port, max_batch_size=1, decoders=1, lease_s=0.1)
        running.model.gate.clear()
        for value in range(20, 30):
            far.send(fakes.make_frame(value))
        until(lambda: running.worker.status()["taken"] == 10)
        before = running.worker._session.connections
        mosquitto_broker.stop()
        until(lambda: not running.worker._session.connected)
        mosquitto_broker.start()
        until(lambda: running.worker._session.connections > before, 30)
        time.sleep(0.1)
        running.model.gate.set()
        until(lambda: running.worker.status()["taken"] == 0, 30)
        # What was decoded already is finished and told; what still waited is left.
        assert metric(running.worker, "lapsed") + metric(running.worker, "diagnosed") == 10
        assert metric(running.worker, "lapsed") >= 6


def test_a_kept_session_brings_back_what_a_killed_worker_had(mosquitto_broker, fakes, worker_process, until):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        process = worker_process(
            mosquitto_broker.port, delay_s=0.4, max_batch_size=2, session_kept_s=60, pool="main"
        )
        far.wait(lambda: far.states, 30)
        frames = [far.send(fakes.make_frame(value)) for value in range(20, 30)]
        until(lambda: process.status()["taken"] > 4)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.start()
        far.wait(lambda: all(far.statuses(frame) for frame in frames), 30)
        assert {one.status for one in far.receipts} == {"diagnosed"}  # nobody had to send again
