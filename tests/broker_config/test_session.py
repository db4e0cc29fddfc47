"""The life of a session over a real Mosquitto: birth, will, outages, its end."""

import queue
import threading
import time
from pathlib import Path

import pytest

from broker_config.backoff import ReconnectPauses, backoff_s
from broker_config.delivery import Publication
from broker_config.errors import (
    NotConnected,
    SessionError,
)
from broker_config.mosquitto import MosquittoProcess
from broker_config.session import Session, Subscription
from tests.broker_config.rough_line import RoughLine
from tests.broker_config.session_parts import (
    eventually,
    listening,
    message,
    running,
    settings_for,
)

pytestmark = pytest.mark.mosquitto

STATE = "hemolink/v1/clinic/scope-1/state"


def state(text: str) -> Publication:
    return Publication(STATE, text.encode(), retain=True)


def test_birth_goodbye_and_will(mosquitto_broker: MosquittoProcess) -> None:
    broker = settings_for(mosquitto_broker.port)
    births = iter(range(1, 100))
    options = {"birth": lambda: state(f"online {next(births)}"), "will": state("offline")}
    with listening(broker, STATE) as inbox, RoughLine(broker.port) as line:
        through = settings_for(line.port)
        with running(through, "scope-1", **options) as session:
            assert inbox.get(timeout=5).payload == b"online 1"
            session.stop(goodbye=state("goodbye"))
            assert inbox.get(timeout=5).payload == b"goodbye"
            assert not session.connected
        with running(through, "scope-1", **options) as session:
            assert inbox.get(timeout=5).payload == b"online 2"
            line.cut()  # without DISCONNECT
            assert inbox.get(timeout=5).payload == b"offline"
            assert inbox.get(timeout=5).payload == b"online 3"
    with listening(broker, STATE) as inbox:
        last = inbox.get(timeout=5)
        assert (last.payload, last.retain) == (b"online 3", True)


def test_publish_until_acknowledged_outlives_a_broker_restart(mosquitto_broker: MosquittoProcess) -> None:
    broker = settings_for(mosquitto_broker.port)
    result: queue.Queue[object] = queue.Queue()
    stop = threading.Event()
    with running(broker, "p", birth=lambda: state("online")) as session:
        mosquitto_broker.kill()
        eventually(lambda: not session.connected)
        with pytest.raises(NotConnected, match=r"lost|nothing listens"):
            session.publish(message("a/b"))
        thread = threading.Thread(
            target=lambda: result.put(session.publish_until_acknowledged(message("a/b"), stop=stop))
        )
        thread.start()
        eventually(
            lambda: f"nothing listens on 127.0.0.1:{broker.port}: start the broker" in session.last_error
        )
        assert result.empty()
        mosquitto_broker.start()
        assert result.get(timeout=10).reason_code in (0, 0x10)
        thread.join(5)
        assert session.connections == 2
        assert session.last_error == ""


def test_callbacks_that_fail_end_nothing(mosquitto_broker: MosquittoProcess) -> None:
    def fail(*_: object) -> Publication:
        raise RuntimeError("a fault in a callback")

    with running(
        settings_for(mosquitto_broker.port), "p", birth=fail, on_connected=fail, on_disconnected=fail
    ) as session:
        mosquitto_broker.stop()
        eventually(lambda: not session.connected)
        mosquitto_broker.start()
        eventually(lambda: session.connected)


def test_a_session_starts_once_and_stops_at_any_time(free_port) -> None:
    session = Session(settings_for(free_port()), client_id="p")
    session.stop()
    session = Session(settings_for(free_port()), client_id="p")
    session.start()
    with pytest.raises(SessionError, match="started before"):
        session.start()
    began = time.monotonic()
    session.stop()
    session.stop()
    assert time.monotonic() - began < 3
    with pytest.raises(NotConnected, match="stopped"):
        session.publish(message("a/b"))


def test_backoff_is_exponential_with_full_jitter() -> None:
    for attempt in range(1, 40):
        bound = min(30.0, 2.0 ** (attempt - 1))
        pauses = [backoff_s(attempt) for _ in range(300)]
        assert all(0 <= pause <= bound for pause in pauses)
        assert min(pauses) < 0.2 * bound
        assert max(pauses) > 0.8 * bound
    assert backoff_s(10_000) <= 30


def test_a_pause_is_as_long_as_the_time_away_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: (low, high)[1])
    pauses = ReconnectPauses(30.0)
    assert [pauses.after(at, held_s=0.0) for at in (100, 100.5, 101, 103, 110, 200)] == [1, 1, 1, 3, 10, 30]
    assert pauses.after(300, held_s=1.0) == 30  # two clients of one name
    assert pauses.after(400, held_s=60.0, taken_over=True) == 30  # and those that the broker names
    assert pauses.after(500, held_s=4.0) == 1  # a line that drops every few seconds
    assert pauses.after(502, held_s=0.0) == 2
    monkeypatch.undo()
    assert len({pauses.after(510, held_s=0.0) for _ in range(10)}) == 10


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux says how often a thread woke")
def test_an_idle_session_sleeps(mosquitto_broker: MosquittoProcess) -> None:
    with running(settings_for(mosquitto_broker.port), "p", subscriptions=[Subscription("a/+")]) as session:
        status = Path(f"/proc/self/task/{session._thread.native_id}/status")

        def wakes() -> int:
            (line,) = (one for one in status.read_text().splitlines() if one.startswith("voluntary"))
            return int(line.split()[1])

        session.publish(message("a/b"))
        before = wakes()
        time.sleep(2.0)  # the measurement itself
        assert wakes() - before <= 3
        assert session.publish(message("a/b")).reason_code == 0  # and it is wide awake at once
