"""The desk stops the model that a worker serves: every frame still reaches a person, referred, and none waits in silence."""

import urllib.request
from datetime import timedelta

import pytest

from broker_config.delivery import Publication, publication
from broker_config.fleet_messages import FleetStops, ModelStop
from broker_config.messages import now

pytestmark = pytest.mark.mosquitto
WEIGHTS = "0" * 64  # of the fake model


def stops(far, *weights, at=None):
    """Publish which models are stopped, as the dashboard does."""
    message = FleetStops(
        stops=tuple(
            ModelStop(
                weights_sha256=one, name="fake", version="1", reason="drift on bench 3", stopped_at=now()
            )
            for one in weights
        ),
        at=at or now(),
        by="desk",
    )
    far.session.publish(publication(far.topics.fleet_stops(), message))


def answer(far, fakes):
    """Send a frame, and return what became of it."""
    frame = far.send(fakes.make_frame())
    far.wait(lambda: "diagnosed" in far.statuses(frame))
    (found,) = [one for one in far.diagnoses if one.frame_id == frame.frame_id]
    return found


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_stop_reaches_a_running_worker_outlives_its_restart_and_is_taken_back(
    mosquitto_broker, fakes, start_worker, until, protocol
):
    settings = {"protocol": protocol, "heartbeat_s": 0.2, "pool": "main" if protocol == "5" else None}
    with fakes.FarEnd(mosquitto_broker.port, protocol=protocol) as far:
        running = start_worker(mosquitto_broker.port, **settings)
        assert answer(far, fakes).decision == "report"

        stops(far, "a" * 64, WEIGHTS)
        until(lambda: running.worker.status()["stopped"])
        referred = answer(far, fakes)
        assert referred.decision == "refer"
        assert referred.reasons[0].startswith("model_stopped: the desk has stopped fake 1 at ")
        assert "drift on bench 3" in referred.reasons[0]
        assert sum(referred.probabilities.values()) == pytest.approx(1)  # the evidence is there all the same
        ready, sentence = running.worker.ready()
        assert (ready, "model_stopped" in sentence) == (True, True)
        far.wait(lambda: any("drift on bench 3" in one.stopped for one in far.states))

        running.worker.stop()
        running.stopped = True
        again = start_worker(mosquitto_broker.port, name="w2", **settings)
        assert (
            answer(far, fakes).decision == "refer"
        )  # the first frame already: what is retained comes before it

        stops(far, "a" * 64)
        until(lambda: not again.worker.status()["stopped"])
        assert answer(far, fakes).decision == "report"
        far.wait(lambda: far.states[-1].worker == "w2" and not far.states[-1].stopped)


def test_what_cannot_be_read_is_counted_and_the_last_word_stays(mosquitto_broker, fakes, start_worker, until):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        running = start_worker(mosquitto_broker.port)

        def heard(outcome):
            counted = running.worker.metrics.registry.get_sample_value
            return counted("hemolink_worker_messages_total", {"kind": "fleet-stops", "outcome": outcome})

        stops(far, WEIGHTS)
        until(lambda: heard("taken") == 1)
        for payload, outcome in (
            (b"", "not_json"),
            (b"\xff\x00" * 50, "not_json"),
            (b"[]", "not_a_map"),
            (
                b'{"stops": [{"weights_sha256": "x"}], "at": "2026-01-01T00:00:00Z", "by": "d"}',
                "invalid_field",
            ),
            (b'{"schema_version": 9}', "unknown_version"),
            (b" " * 1_000_001, "too_large"),
        ):
            before = heard(outcome) or 0
            far.session.publish(Publication(far.topics.fleet_stops(), payload, retain=True))
            until(lambda outcome=outcome, before=before: heard(outcome) == before + 1)
        stops(far, at=now() - timedelta(hours=1))  # an earlier word that was late
        until(lambda: heard("stale") == 1)
        assert answer(far, fakes).decision == "refer"

        stops(far, at=now() + timedelta(days=400))  # a clock that is ahead is believed, once
        until(lambda: heard("taken") == 2)
        assert answer(far, fakes).decision == "report"
        stops(far, WEIGHTS)
        until(lambda: heard("taken") == 3)
        assert answer(far, fakes).decision == "refer"
        address = f"http://127.0.0.1:{running.worker.monitor_port}/metrics"
        with urllib.request.urlopen(address, timeout=5) as page:
            assert b"hemolink_worker_model_stopped 1.0" in page.read()
