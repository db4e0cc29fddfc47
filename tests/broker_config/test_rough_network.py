"""The session on bad networks: each kind of failure is noticed in a bounded time, and recovered from by itself."""

import os
import signal
import threading
import time

import pytest

from broker_config.errors import NotConnected, SessionError
from broker_config.keepalive import KeepAlive
from broker_config.mosquitto import MosquittoProcess
from tests.broker_config.rough_line import RoughLine
from tests.broker_config.session_parts import (
    CONNACK_5,
    eventually,
    fake_broker,
    listening,
    message,
    read_packet,
    running,
    settings_for,
)

KEEPALIVE_S = 1
GIVEN_UP_WITHIN_S = 1.5 * KEEPALIVE_S


@pytest.mark.mosquitto
def test_a_line_that_is_cut_is_noticed_at_once_and_a_lone_device_is_soon_back(
    mosquitto_broker: MosquittoProcess,
) -> None:
    with RoughLine(mosquitto_broker.port) as line:
        broker = settings_for(line.port, reconnect_max_s=30)
        with running(broker, "edge") as session:
            began = time.monotonic()
            line.cut()
            eventually(lambda: session.connections == 2 and session.connected)
            assert time.monotonic() - began < 5  # a first pause of at most one second, and a loaded machine


@pytest.mark.mosquitto
@pytest.mark.parametrize("frames", [0, 200], ids=["idle", "with frames in flight"])
def test_a_peer_that_vanished_without_a_word_is_noticed(
    mosquitto_broker: MosquittoProcess, frames: int
) -> None:
    with RoughLine(mosquitto_broker.port) as line:
        broker = settings_for(line.port, keepalive_s=KEEPALIVE_S, connect_timeout_s=1)
        with running(broker, "edge") as session:
            line.go_dead()
            began = time.monotonic()
            futures = [session.publish_soon(message("a/b", b"x" * 60_000)) for _ in range(frames)]
            eventually(lambda: not session.connected)
            assert time.monotonic() - began < GIVEN_UP_WITHIN_S + 3
            assert "not even an answer to a ping" in session.last_error or not session.connected
            for future in futures:
                with pytest.raises(NotConnected):
                    future.result(1)
            eventually(lambda: "did not answer MQTT 5 CONNECT" in session.last_error)
            line.recover()
            assert session.wait_connected(10)
            assert session.publish(message("a/b")).reason_code in (0, 0x10)


@pytest.mark.mosquitto
@pytest.mark.parametrize("frames", [0, 200], ids=["idle", "with frames in flight"])
def test_a_broker_that_stands_still_is_noticed_and_found_again(
    mosquitto_broker: MosquittoProcess, frames: int
) -> None:
    broker = settings_for(mosquitto_broker.port, keepalive_s=KEEPALIVE_S, connect_timeout_s=1)
    pid = mosquitto_broker.pid
    with running(broker, "edge") as session:
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            futures = [session.publish_soon(message("a/b", b"x" * 60_000)) for _ in range(frames)]
            eventually(lambda: not session.connected)
            assert time.monotonic() - began < GIVEN_UP_WITHIN_S + 3
            for future in futures:
                with pytest.raises(
                    NotConnected, match=r"may or may not have arrived|has just ended: publish again"
                ):
                    future.result(1)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert session.wait_connected(10)
        assert session.publish(message("a/b")).reason_code in (0, 0x10)


@pytest.mark.mosquitto
def test_a_slow_line_loses_no_connection_and_no_frame(mosquitto_broker: MosquittoProcess) -> None:
    # 60 kB at 40 kB/s with a keep-alive of 2 s: what the kernel holds alone takes longer than that.
    with RoughLine(mosquitto_broker.port, bytes_per_s=40_000) as line:
        broker = settings_for(line.port, keepalive_s=2)
        with (
            listening(settings_for(mosquitto_broker.port), "a/b") as inbox,
            running(broker, "edge") as session,
        ):
            futures = [session.publish_soon(message("a/b", b"x" * 60_000)) for _ in range(4)]
            assert all(future.result(30).reason_code == 0 for future in futures)
            assert all(len(inbox.get(timeout=1).payload) == 60_000 for _ in range(4))
            assert session.connections == 1


@pytest.mark.mosquitto
@pytest.mark.slow
def test_one_long_frame_passes_a_slow_line(mosquitto_broker: MosquittoProcess) -> None:
    # Twenty keep-alive intervals for one packet, which the client library alone would cut off for ever.
    with RoughLine(mosquitto_broker.port, bytes_per_s=30_000) as line:
        broker = settings_for(line.port, keepalive_s=2)
        with running(broker, "edge") as session:
            assert session.publish(message("a/b", b"x" * 1_200_000), timeout_s=90).reason_code == 0x10
            assert session.connections == 1


def test_a_broker_that_passes_over_one_publish_does_not_keep_it_waiting_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker_config.window._STALL_S", 0.5)
    stop = threading.Event()

    def serve(guest) -> None:
        read_packet(guest)
        guest.sendall(CONNACK_5)
        first = True
        while not stop.is_set():
            kind, body = read_packet(guest)
            if kind >> 4 == 3 and not first:
                guest.sendall(bytes([0x40, 2, *body[5:7]]))
            first = first and kind >> 4 != 3

    with (
        fake_broker(serve) as port,
        running(settings_for(port, publish_timeout_s=0.1), "p") as session,
    ):
        forgotten = session.publish_soon(message("a/b"))
        deadline = time.monotonic() + 20
        while not forgotten.done():
            assert time.monotonic() < deadline, "the forgotten publish was never given up"
            try:
                session.publish(message("a/b"))  # the others are acknowledged all the while
            except SessionError:
                break
        with pytest.raises(NotConnected, match="acknowledges nothing any more"):
            forgotten.result(10)
        stop.set()


def test_the_rules_of_silence() -> None:
    idle = KeepAlive(30, 0.0)
    assert (idle.ping_due(29.9), idle.ping_due(30.0), idle.wait_s(10.0)) == (False, True, 20.0)
    idle.pinged(30.0)
    assert (idle.ping_due(31.0), idle.silent(44.9), idle.silent(45.0)) == (False, False, True)
    idle.heard(31.0)
    assert not idle.silent(45.0)

    # Only receiving: the broker wants to hear something, too.
    listener = KeepAlive(30, 0.0)
    listener.heard(29.0)
    assert listener.ping_due(30.0)

    # A packet that is stuck allows no ping, and is given up; one that moves is not.
    blocked = KeepAlive(30, 0.0)
    blocked.sent(1.0, blocked=True)
    assert not blocked.ping_due(40.0)
    assert (blocked.silent(45.9), blocked.silent(46.0)) == (False, True)
    blocked.heard(45.0)
    assert not blocked.silent(60.0)

    # A process that stood still for an hour asks before it judges.
    woken = KeepAlive(30, 0.0)
    assert (woken.silent(3600.0), woken.ping_due(3600.0)) == (False, True)


def test_the_keep_alive_that_the_broker_asks_for_counts() -> None:
    pinged = threading.Event()

    def serve(guest) -> None:
        read_packet(guest)
        guest.sendall(bytes([0x20, 6, 0, 0, 3, 0x13, 0, 1]))  # Server Keep Alive of one second
        while True:
            if read_packet(guest)[0] == 0xC0:
                pinged.set()
                guest.sendall(bytes([0xD0, 0]))

    with fake_broker(serve) as port, running(settings_for(port, keepalive_s=600), "p"):
        assert pinged.wait(10)
