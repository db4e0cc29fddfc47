"""At least once: through cuts, kills, drains and a broken engine."""

import contextlib
import signal
import socket
import threading
from concurrent.futures import Future

import pytest

from broker_config.delivery import Publication
from broker_config.errors import NotConnected, PublishRefused
from broker_config.session import IncomingMessage, PublishResult
from cloud_worker.job import Job
from cloud_worker.metrics import Metrics
from cloud_worker.publishing import Outcome, Publisher


class Proxy:
    """Forwards TCP to a broker, until it is cut."""

    def __init__(self, target):
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._pairs = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self):
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        self._pairs = []

    def close(self):
        self._listener.close()
        self.cut()


class ScriptedOutbox:
    """An outbox whose acknowledgements the test gives."""

    def __init__(self, log):
        self.log = log
        self.sent = []
        self._changed = threading.Condition()

    def publish_soon(self, publication):
        future = Future()
        with self._changed:
            self.sent.append((publication.topic, future))
            self.log.append(publication.topic)
            self._changed.notify_all()
        return future

    def wait_connected(self, timeout_s):
        return True

    def wait_sent(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.sent) >= count, 10)


def test_a_frame_is_acknowledged_only_after_its_diagnosis_is(until):
    log = []
    message = IncomingMessage("frame", b"", _acknowledge=lambda: log.append("ack") or True)
    outbox, metrics = ScriptedOutbox(log), Metrics()
    publisher = Publisher(
        outbox, settled=lambda _: log.append("settled"), abandoned=log.append, metrics=metrics
    )
    publisher.start()
    outcome = Outcome(Job(message, None), Publication("diagnosis", b""), Publication("receipt", b""))
    publisher.submit(outcome.job, lambda: outcome)
    outbox.wait_sent(1)
    outbox.sent[0][1].set_exception(NotConnected("cut"))  # the connection ends: again
    outbox.wait_sent(2)
    assert log == ["diagnosis", "diagnosis"]
    outbox.sent[1][1].set_result(PublishResult())
    until(lambda: "settled" in log)
    assert log == ["diagnosis", "diagnosis", "receipt", "ack", "settled"]
    publisher.stop(5)


def test_a_refused_diagnosis_raises_an_alarm_and_is_not_acknowledged(until):
    log = []
    message = IncomingMessage("frame", b"", _acknowledge=lambda: log.append("ack") or True)
    outbox = ScriptedOutbox(log)
    publisher = Publisher(
        outbox, settled=lambda _: log.append("settled"), abandoned=log.append, metrics=Metrics()
    )
    publisher.start()
    job = Job(message, None)
    publisher.submit(job, lambda: Outcome(job, Publication("diagnosis", b""), None))
    outbox.wait_sent(1)
    outbox.sent[0][1].set_exception(PublishRefused("not authorized: allow it", reason_code=0x87))
    until(lambda: publisher.alarm == "not authorized: allow it")
    assert log == ["diagnosis"]
    publisher.stop(5)


def test_a_frame_whose_answer_cannot_be_composed_frees_its_place_and_gets_no_receipt(until):
    log = []
    message = IncomingMessage("frame", b"", _acknowledge=lambda: log.append("ack") or True)
    job, metrics = Job(message, None), Metrics()
    publisher = Publisher(ScriptedOutbox(log), settled=log.append, abandoned=log.append, metrics=metrics)
    publisher.start()
    publisher.submit(job, lambda: 1 / 0)
    until(lambda: job in log)
    assert log == ["ack", job]
    publisher.stop(5)


@pytest.mark.mosquitto
def test_a_cut_between_frame_and_diagnosis_loses_nothing(mosquitto_broker, fakes, start_worker, until):
    proxy = Proxy(mosquitto_broker.port)
    try:
        with fakes.FarEnd(mosquitto_broker.port) as far:
            running = start_worker(proxy.port, receive_maximum=1, pool="main")
            running.model.gate.clear()
            frame = far.send(fakes.make_frame(30))
            assert running.model.entered.wait(10)
            before = running.worker._session.connections
            proxy.cut()
            until(
                lambda: running.worker._session.connections > before
            )  # away for too short a time to be seen
            running.model.gate.set()
            far.wait(lambda: "diagnosed" in far.statuses(frame))
            # The acknowledgement came too late for its connection, and the worker goes on.
            until(
                lambda: (
                    running.worker.metrics.registry.get_sample_value(
                        "hemolink_worker_stale_acknowledgements_total"
                    )
                    == 1
                )
            )
            others = [far.send(fakes.make_frame(value)) for value in (31, 32, 33)]
            far.wait(lambda: all("diagnosed" in far.statuses(one) for one in others))
    finally:
        proxy.close()


@pytest.mark.mosquitto
def test_a_worker_killed_in_mid_batch_is_replaced_by_another(
    mosquitto_broker, fakes, start_worker, worker_process, tmp_path, until
):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        child = worker_process(mosquitto_broker.port, name="doomed", delay_s=60, pool="main")
        far.wait(lambda: far.states, 20)
        frames = [far.send(fakes.make_frame(value)) for value in range(40, 46)]
        until(lambda: child.status()["taken"] == len(frames))
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        far.wait(lambda: far.states[-1].presence == "offline")  # the will
        start_worker(mosquitto_broker.port, name="w2", pool="main")
        assert far.receipts == []
        for frame in frames:
            far.send(frame)  # what an edge does when no receipt comes
        far.wait(lambda: all("diagnosed" in far.statuses(frame) for frame in frames))
        assert {one.worker for one in far.diagnoses} == {"w2"}


@pytest.mark.mosquitto
def test_sigterm_finishes_what_was_taken(mosquitto_broker, fakes, worker_process):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        child = worker_process(mosquitto_broker.port, delay_s=0.1, max_batch_size=4, receive_maximum=30)
        far.wait(lambda: far.states, 20)
        frames = [far.send(fakes.make_frame(value)) for value in range(40, 64)]
        far.wait(lambda: far.receipts)
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0, child.said()
        far.wait(lambda: far.states[-1].presence == "offline")
        # Every frame is answered: diagnosed, or handed back because it came after the order to stop.
        far.wait(lambda: all(far.statuses(frame) for frame in frames))
        assert {status for frame in frames for status in far.statuses(frame)} <= {"diagnosed", "retry"}
        assert sum("diagnosed" in far.statuses(frame) for frame in frames) >= 12


@pytest.mark.mosquitto
def test_a_worker_that_drains_leaves_what_is_new_to_the_others(mosquitto_broker, fakes, start_worker, until):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        goes = start_worker(mosquitto_broker.port, name="goes", pool="main", receive_maximum=2)
        stays = start_worker(mosquitto_broker.port, name="stays", pool="main", receive_maximum=2)
        goes.model.gate.clear()
        early = [far.send(fakes.make_frame(value)) for value in range(20, 32)]
        # Each half goes to one worker: two of them are taken, and the broker holds four for the one that is stuck.
        far.wait(lambda: sum(bool(far.statuses(frame)) for frame in early) == 6)
        until(lambda: goes.worker.status()["taken"] == 2)
        drain = threading.Thread(target=goes.worker.stop)
        drain.start()
        far.wait(lambda: any(one.presence == "draining" for one in far.states))
        until(lambda: goes.worker._departure.has_left)
        late = [far.send(fakes.make_frame(value)) for value in range(40, 50)]
        far.wait(lambda: all(far.statuses(frame) == ["diagnosed"] for frame in late))
        assert drain.is_alive()
        goes.model.gate.set()
        drain.join(10)
        goes.stopped = True
        # Its two are finished, and the four that the broker still held for it are handed back one by one.
        far.wait(lambda: all(far.statuses(frame) for frame in early))
        said = [status for frame in early for status in far.statuses(frame)]
        assert (said.count("diagnosed"), said.count("retry")) == (8, 4)
        assert {
            one.worker for one in far.diagnoses if one.frame_id in {frame.frame_id for frame in late}
        } == {stays.worker.settings.name}


@pytest.mark.mosquitto
def test_a_drain_that_runs_out_of_time_hands_frames_back(mosquitto_broker, fakes, start_worker, until):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        running = start_worker(mosquitto_broker.port, drain_s=0.3)
        running.model.gate.clear()
        frames = [far.send(fakes.make_frame(value)) for value in (40, 41, 42)]
        until(lambda: running.worker.status()["taken"] == 3)
        running.worker.stop()
        running.stopped = True
        far.wait(lambda: all(far.statuses(frame) == ["retry"] for frame in frames))
        running.model.gate.set()


@pytest.mark.mosquitto
def test_a_broken_engine_rejects_nothing_and_ends_the_worker(mosquitto_broker, fakes, start_worker):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        running = start_worker(mosquitto_broker.port)
        running.model.broken = True
        frame = far.send(fakes.make_frame(50))
        assert running.worker.run(threading.Event()) == 1
        ready, sentence = running.worker.ready()
        assert not ready
        assert "fails on a plain grey image too" in sentence
        running.worker.stop()
        running.stopped = True
        far.wait(lambda: far.statuses(frame) == ["retry"])
        assert far.rejections == []


@pytest.mark.mosquitto
def test_an_inference_that_hangs_ends_the_process(mosquitto_broker, fakes, start_worker, until):
    ended = []
    with fakes.FarEnd(mosquitto_broker.port) as far:
        running = start_worker(mosquitto_broker.port, inference_deadline_s=0.2, end=ended.append)
        running.model.gate.clear()
        far.send(fakes.make_frame(50))
        until(lambda: ended == [3])
        ready, sentence = running.worker.ready()
        assert not ready
        assert "inference_deadline_s is 0.2" in sentence
        assert far.receipts == []


@pytest.mark.mosquitto
def test_a_broker_restart_is_survived(mosquitto_broker, fakes, start_worker, until):
    running = start_worker(mosquitto_broker.port, pool="main")
    mosquitto_broker.stop()
    until(lambda: not running.worker.ready()[0])
    assert str(mosquitto_broker.port) in running.worker.ready()[1]
    mosquitto_broker.start()
    with fakes.FarEnd(mosquitto_broker.port) as far:
        until(lambda: running.worker.ready()[0])
        frame = far.send(fakes.make_frame(50))
        far.wait(lambda: far.statuses(frame) == ["diagnosed"])
