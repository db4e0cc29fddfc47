"""How fast frames leave through a session, beside a plain loop over the client library in the same run."""

import threading
import time

import paho.mqtt.client as paho
import pytest

from broker_config.mosquitto import MosquittoProcess
from tests.broker_config.session_parts import message, running, settings_for

pytestmark = pytest.mark.mosquitto

FRAME = b"x" * 60_000
WINDOW = 20


def of_a_session(port: int, frames: int) -> float:
    """Frames a second through `Session.publish_soon`, with at most `WINDOW` handed over."""
    room, left, done = threading.Semaphore(WINDOW), [frames], threading.Event()

    def acknowledged(future: object) -> None:
        future.result()
        left[0] -= 1
        if left[0] == 0:
            done.set()
        room.release()

    with running(settings_for(port), "ours") as session:
        began = time.monotonic()
        for _ in range(frames):
            room.acquire()
            session.publish_soon(message("a/b", FRAME)).add_done_callback(acknowledged)
        assert done.wait(60)
        return frames / (time.monotonic() - began)


def of_plain_paho(port: int, frames: int) -> float:
    """The same with the library alone and its own network thread."""
    room, left, done, ready = threading.Semaphore(WINDOW), [frames], threading.Event(), threading.Event()

    def acknowledged(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            done.set()
        room.release()

    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="plain", protocol=paho.MQTTv5)
    client.max_inflight_messages_set(WINDOW)
    client.on_connect = lambda *_: ready.set()
    client.on_publish = acknowledged
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        assert ready.wait(10)
        began = time.monotonic()
        for _ in range(frames):
            room.acquire()
            client.publish("a/b", FRAME, 1)
        assert done.wait(60)
        return frames / (time.monotonic() - began)
    finally:
        client.disconnect()
        client.loop_stop()


def test_a_session_is_not_much_slower_than_the_library_alone(mosquitto_broker: MosquittoProcess) -> None:
    # In turns, and the best of each: others use this machine, too.
    ours, plain = (
        max(rates)
        for rates in zip(
            *(
                (of_a_session(mosquitto_broker.port, 600), of_plain_paho(mosquitto_broker.port, 600))
                for _ in range(3)
            ),
            strict=True,
        )
    )
    print(f"\nframes of 60 kB a second: {ours:.0f} through a session, {plain:.0f} with paho alone")
    assert ours > plain / 3


@pytest.mark.slow
def test_a_session_drains_five_hundred_frames_a_second(mosquitto_broker: MosquittoProcess) -> None:
    assert max(of_a_session(mosquitto_broker.port, 5000) for _ in range(3)) > 500
