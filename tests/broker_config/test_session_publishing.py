"""Publishing over a real Mosquitto: acknowledged or an error, within the broker's limits."""

import queue
import socket
import threading
from pathlib import Path

import pytest

from broker_config.errors import (
    NotConnected,
    PayloadTooLarge,
    PublishRefused,
    PublishTimeout,
    SessionError,
)
from broker_config.mosquitto import MosquittoProcess
from broker_config.packets import packet_bytes
from broker_config.session import Session, Subscription
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

pytestmark = pytest.mark.mosquitto


def test_properties_travel_under_mqtt_5(mosquitto_broker: MosquittoProcess) -> None:
    broker = settings_for(mosquitto_broker.port)
    sent = message(
        "a/b",
        content_type="application/cbor",
        correlation_data=b"\x00id",
        response_topic="a/answer",
        user_properties=(("schema", "frame/1"), ("schema", "twice")),
        expiry_s=30,
    )
    with listening(broker, "a/+") as inbox, running(broker, "p") as session:
        assert session.publish(sent).reason_code == 0
        got = inbox.get(timeout=5)
    assert (got.content_type, got.correlation_data, got.response_topic) == (
        "application/cbor",
        b"\x00id",
        "a/answer",
    )
    assert got.user_properties == (("schema", "frame/1"), ("schema", "twice"))


def test_a_publish_that_nobody_subscribes_to_says_so(mosquitto_broker: MosquittoProcess) -> None:
    with running(settings_for(mosquitto_broker.port), "p") as session:
        assert session.publish(message("a/nobody")).no_subscribers
    with running(settings_for(mosquitto_broker.port, "3.1.1"), "p") as session:
        assert not session.publish(message("a/nobody")).no_subscribers  # 3.1.1 cannot say


def test_publish_until_acknowledged_gives_up_when_told(free_port) -> None:
    session = Session(settings_for(free_port()), client_id="p")
    session.start()
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(NotConnected, match="stopped before"):
        session.publish_until_acknowledged(message("a/b"), stop=stop)
    session.stop()


def test_an_oversize_packet_is_never_sent(tmp_path: Path) -> None:
    with MosquittoProcess(tmp_path, max_packet_bytes=10_000) as server:
        broker = settings_for(server.port)
        with listening(broker, "a/+") as inbox, running(broker, "p") as session:
            assert session.maximum_packet_bytes == 10_000
            with pytest.raises(PayloadTooLarge, match=r"takes 10000: send a smaller image"):
                session.publish(message("a/b", b"x" * 10_000))
            assert session.publish(message("a/b", b"small")).reason_code == 0
            assert inbox.get(timeout=5).payload == b"small"
            assert session.connections == 1


def test_the_size_check_is_exact(tmp_path: Path) -> None:
    with MosquittoProcess(tmp_path, max_packet_bytes=5_000) as server:
        broker = settings_for(server.port)
        with listening(broker, "a/+") as inbox, running(broker, "p") as session:
            overhead = 5_000
            for size in (4_900, 4_950, 4_970, 4_980, 4_990, 5_000):
                sent = message("a/b", b"x" * size, correlation_data=b"id", user_properties=(("k", "v"),))
                try:
                    session.publish(sent)
                except PayloadTooLarge:
                    continue
                overhead = 5_000 - size
                assert len(inbox.get(timeout=5).payload) == size
            assert 0 < overhead < 100
            assert session.connections == 1


@pytest.mark.parametrize("body", [0, 100, 127, 128, 16_383, 16_384, 2_097_151])
def test_packet_bytes_counts_every_length_byte(body: int) -> None:
    # QoS 0, topic "t": two bytes of length, one of topic, then the payload.
    publication = message("t", b"x" * body, qos=0)
    remaining = 3 + body
    length_bytes = 1 + (remaining > 127) + (remaining > 16_383) + (remaining > 2_097_151)
    assert packet_bytes(publication, None) == 1 + length_bytes + remaining


def test_the_own_limit_counts_where_the_broker_announces_none(mosquitto_broker: MosquittoProcess) -> None:
    broker = settings_for(mosquitto_broker.port, "3.1.1", max_packet_bytes=2_000)
    with running(broker, "p") as session, pytest.raises(PayloadTooLarge, match="takes 2000"):
        session.publish(message("a/b", b"x" * 2_000))


def test_the_window_is_the_brokers_receive_maximum(tmp_path: Path) -> None:
    with MosquittoProcess(tmp_path, max_inflight=3) as server:
        broker = settings_for(server.port)
        with listening(broker, "a/+") as inbox, running(broker, "p") as session:
            assert session.receive_maximum == 3
            futures = [session.publish_soon(message("a/b", b"%d" % n)) for n in range(50)]
            assert all(future.result(5).reason_code == 0 for future in futures)
            assert [inbox.get(timeout=5).payload for _ in range(50)] == [b"%d" % n for n in range(50)]
            assert session.connections == 1
        with running(settings_for(server.port, "3.1.1"), "q") as session:
            assert session.receive_maximum == 20


def test_no_more_than_the_window_is_ever_in_flight() -> None:
    unanswered: queue.Queue[bytes] = queue.Queue()

    def serve(guest: socket.socket) -> None:
        read_packet(guest)
        guest.sendall(bytes([0x20, 6, 0, 0, 3, 0x21, 0, 2]))  # Receive Maximum 2
        while True:
            first, body = read_packet(guest)
            if first >> 4 == 3:
                unanswered.put(body)

    with fake_broker(serve) as port, running(settings_for(port), "p") as session:
        futures = [session.publish_soon(message("a/b")) for _ in range(5)]
        eventually(lambda: unanswered.qsize() == 2)
        with pytest.raises(PublishTimeout, match="it was not sent: publish again"):
            session.publish(message("a/b"), timeout_s=0.2)
        assert unanswered.qsize() == 2
        session.stop(1)
        for future in futures:
            with pytest.raises(NotConnected, match="may or may not have arrived: publish again"):
                future.result(5)


def test_what_is_in_flight_fails_when_the_connection_drops_and_is_not_resent() -> None:
    publishes: list[int] = []

    def serve(guest: socket.socket) -> None:
        read_packet(guest)
        guest.sendall(CONNACK_5)
        while True:
            first, _ = read_packet(guest)
            if first >> 4 == 3:
                publishes.append(first)
                guest.shutdown(socket.SHUT_RDWR)

    with fake_broker(serve) as port, running(settings_for(port), "p") as session:
        with pytest.raises(NotConnected, match="may or may not have arrived"):
            session.publish(message("a/b"))
        eventually(lambda: session.connections >= 2 and session.connected)
        assert len(publishes) == 1


def test_publish_on_the_network_thread_is_refused_rather_than_stuck(
    mosquitto_broker: MosquittoProcess,
) -> None:
    broker = settings_for(mosquitto_broker.port)
    caught: queue.Queue[object] = queue.Queue()
    session = Session(
        broker,
        client_id="p",
        subscriptions=[Subscription("a/+")],
        on_message=lambda _: caught.put(_attempt(session)),
    )
    session.connect()
    session.publish_soon(message("a/b")).result(5)
    assert isinstance(caught.get(timeout=5), SessionError)
    session.stop()


def _attempt(session: Session) -> object:
    try:
        return session.publish(message("a/c"))
    except SessionError as error:
        return error


def test_a_topic_that_cannot_be_published_to_is_refused(mosquitto_broker: MosquittoProcess) -> None:
    with running(settings_for(mosquitto_broker.port), "p") as session:
        with pytest.raises(PublishRefused, match="cannot be published"):
            session.publish(message("a/+"))
        assert session.publish(message("a/b")).reason_code in (0, 0x10)


def test_many_threads_publish_at_once(mosquitto_broker: MosquittoProcess) -> None:
    broker = settings_for(mosquitto_broker.port)
    with listening(broker, "a/+") as inbox, running(broker, "p") as session:
        threads = [
            threading.Thread(
                target=lambda: [session.publish(message("a/b", b"x" * 20_000)) for _ in range(25)]
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        for _ in range(200):
            inbox.get(timeout=5)
