"""From the lab lead's switch to the worker, over Mosquitto: told at once, after an outage, and after a broker has forgotten."""

import pytest

from broker_config.settings import BrokerSettings
from cloud_worker.settings import Settings
from cloud_worker.worker import Worker
from tests.cloud_worker import cloud_worker_fakes as fakes

pytestmark = pytest.mark.mosquitto
WEIGHTS = fakes.IDENTITY.weights_sha256


@pytest.fixture
def worker(tmp_path):
    """A function that starts a worker with a stand-in model; it is stopped afterwards."""
    started = []

    def start(port, name="w1"):
        settings = Settings(
            broker=BrokerSettings(port=port, reconnect_max_s=0.3),
            worker=name,
            directory=tmp_path / name,
            heartbeat_s=0.2,
            drain_s=5.0,
        )
        started.append(Worker(settings, model=(fakes.FakeModel(), fakes.IDENTITY)))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.stop()


def test_the_switch_reaches_the_workers_and_every_frame_still_reaches_the_record(
    mosquitto_broker, tmp_path, desk, worker, eventually
):
    port = mosquitto_broker.port
    sent = []

    with (
        desk(port, tmp_path / "desk", protocol="5") as running,
        fakes.FarEnd(port) as far,
    ):
        first = worker(port)
        eventually(lambda: first.ready()[0], what="the worker takes frames")

        def answered():
            assert far.session.wait_connected(10)
            sent.append(far.send(fakes.make_frame()))
            eventually(lambda: running.summary()["recorded"] == len(sent), what="the frame is recorded")
            frame = running.http.get(f"/api/v1/frames/{sent[-1].frame_id}").raise_for_status().json()
            return frame["diagnoses"][-1]

        def switch(verb):
            address = f"/api/v1/models/{WEIGHTS}/{verb}"
            running.http.post(address, params={"reason": f"{verb} on bench 3"}).raise_for_status()

        assert answered()["decision"] == "report"
        switch("stop")
        eventually(lambda: first.status()["stopped"], what="the worker hears of the stop")
        referred = answered()
        assert (referred["decision"], referred["reasons"][0].split(":")[0]) == ("refer", "model_stopped")
        eventually(
            lambda: "refers every frame: give this worker another model" in running.http.get("/fleet").text,
            what="the fleet page says that it knows",
        )
        shown = running.http.get("/api/v1/fleet").json()["workers"][0]["state"]["stopped"]
        assert "stop on bench 3" in shown

        # While the broker is away, which forgets what it retained, the stop is taken back: told when it is there again.
        mosquitto_broker.stop()
        switch("start")
        assert first.status()["stopped"]
        mosquitto_broker.start()
        eventually(lambda: not first.status()["stopped"], within_s=30, what="the worker hears of the start")
        assert answered()["decision"] == "report"

        switch("stop")
        eventually(lambda: first.status()["stopped"])
        mosquitto_broker.stop()
        mosquitto_broker.start()
        second = worker(port, name="w2")
        for one in (first, second):
            eventually(lambda one=one: one.ready()[0], within_s=30, what="the workers take frames")
        eventually(lambda: second.status()["stopped"], within_s=30, what="told again at each connection")
        assert answered()["decision"] == "refer"
        case = running.http.get("/api/v1/cases/C-1").json()
        assert (case["urgency"], case["recorded"], case["result"]["stopped"]) == (
            "refer",
            len(sent),
            len(sent),
        )


def test_a_record_without_a_stop_says_nothing(mosquitto_broker, tmp_path, desk, worker, eventually):
    port = mosquitto_broker.port
    with desk(port, tmp_path / "desk", protocol="5") as running:
        only = worker(port)
        eventually(lambda: running.http.get("/api/v1/fleet").json()["worker_count"] == 1)
        taken = {"kind": "fleet-stops", "outcome": "taken"}
        assert only.metrics.registry.get_sample_value("hemolink_worker_messages_total", taken) is None
