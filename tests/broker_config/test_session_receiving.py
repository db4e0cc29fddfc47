"""Subscriptions, acknowledgements after the work, and handlers that fail, over a real Mosquitto."""

import queue
import socket

import pytest

from broker_config.errors import (
    SessionError,
)
from broker_config.mosquitto import MosquittoProcess
from broker_config.session import IncomingMessage, Session, Subscription
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


def test_a_kept_session_is_served_what_came_while_it_was_away(mosquitto_broker: MosquittoProcess) -> None:
    broker = settings_for(mosquitto_broker.port)
    with listening(broker, "a/+", client_id="keeper", clean_start=False):
        pass
    with running(broker, "p") as session:
        session.publish(message("a/b", b"while away"))
    with listening(broker, "a/+", client_id="keeper", clean_start=False) as inbox:
        assert inbox.get(timeout=5).payload == b"while away"


def test_an_acknowledgement_counts_only_on_its_own_connection(mosquitto_broker: MosquittoProcess) -> None:
    broker = settings_for(mosquitto_broker.port)
    options = {"client_id": "worker", "manual_ack": True, "receive_maximum": 1, "clean_start": False}
    with listening(broker, "a/+", **options) as inbox, running(broker, "p") as session:
        session.publish(message("a/b", b"1"))
        session.publish(message("a/b", b"2"))
        first = inbox.get(timeout=5)
        with pytest.raises(queue.Empty):  # Receive Maximum 1: nothing more before the acknowledgement
            inbox.get(timeout=0.3)
        mosquitto_broker.stop()
        mosquitto_broker.start()
        again = inbox.get(timeout=10)
        assert (again.payload, again.duplicate) == (b"1", True)
        assert first.acknowledge() is False
        assert again.acknowledge() is True
        assert again.acknowledge() is True  # a second call does nothing
        second = inbox.get(timeout=5)
        assert second.payload == b"2"
        assert second.acknowledge()


def test_acknowledgements_given_before_stop_reach_the_broker(mosquitto_broker: MosquittoProcess) -> None:
    broker = settings_for(mosquitto_broker.port)
    options = {"client_id": "worker", "manual_ack": True, "clean_start": False}
    with running(broker, "p") as session:
        with listening(broker, "a/+", **options) as inbox:
            for number in range(20):
                session.publish(message("a/b", b"%d" % number))
            for _ in range(20):
                inbox.get(timeout=5).acknowledge()
        with listening(broker, "a/+", **options) as inbox:
            session.publish(message("a/b", b"last"))
            assert inbox.get(timeout=5).payload == b"last"


def test_a_handler_that_fails_ends_nothing(
    mosquitto_broker: MosquittoProcess, caplog: pytest.LogCaptureFixture
) -> None:
    broker = settings_for(mosquitto_broker.port)
    good: queue.Queue[bytes] = queue.Queue()

    def handle(incoming: IncomingMessage) -> None:
        if incoming.payload == b"poison":
            raise RuntimeError("a fault in the handler")
        good.put(incoming.payload)

    options = {
        "subscriptions": [Subscription("a/+")],
        "on_message": handle,
        "manual_ack": True,
        "receive_maximum": 2,
    }
    with running(broker, "w", **options) as worker, running(broker, "p") as session:
        for _ in range(10):
            session.publish(message("a/b", b"poison"))
        session.publish(message("a/b", b"good"))
        assert good.get(timeout=5) == b"good"
        assert worker.connections == 1
    assert "could not be taken in" in caplog.text


def test_shared_subscriptions_share(mosquitto_broker: MosquittoProcess) -> None:
    broker = settings_for(mosquitto_broker.port)
    shared = "$share/pool/a/+"
    with (
        listening(broker, shared, client_id="one") as one,
        listening(broker, shared, client_id="two") as two,
        running(broker, "p") as session,
    ):
        for number in range(20):
            session.publish(message("a/b", b"%d" % number))
        eventually(lambda: one.qsize() + two.qsize() == 20)
        assert one.qsize() == two.qsize() == 10
    with pytest.raises(SessionError, match=r"needs MQTT 5: set broker\.protocol to '5'"):
        Session(settings_for(1, "3.1.1"), client_id="w", subscriptions=[Subscription(shared)])


def test_who_unsubscribes_leaves_what_is_new_to_the_others_of_the_group(
    mosquitto_broker: MosquittoProcess,
) -> None:
    broker = settings_for(mosquitto_broker.port)
    shared = "$share/pool/a/+"
    goes: queue.Queue[IncomingMessage] = queue.Queue()
    options = {"subscriptions": [Subscription(shared), Subscription("b")], "on_message": goes.put}
    with (
        listening(broker, shared, client_id="stays") as stays,
        running(broker, "p") as publisher,
        running(broker, "goes", manual_ack=True, receive_maximum=1, **options) as session,
    ):

        def until_the_mark() -> set[bytes]:
            publisher.publish(message("b", b"mark"))
            seen = set()
            while (got := goes.get(timeout=5)).payload != b"mark":
                seen.add(got.payload)
                got.acknowledge()
            got.acknowledge()
            return seen

        for _ in range(4):
            publisher.publish(message("a/b", b"old"))
        held = goes.get(timeout=5)
        assert session.unsubscribe(shared)
        for _ in range(20):
            publisher.publish(message("a/b", b"new"))
        news = 0
        while news < 20:
            news += stays.get(timeout=5).payload == b"new"
        held.acknowledge()
        assert until_the_mark() <= {b"old"}  # what had been routed here
        with pytest.raises(SessionError, match="does not subscribe"):
            session.unsubscribe(shared)
        mosquitto_broker.stop()
        eventually(lambda: not session.connected and not publisher.connected)
        mosquitto_broker.start()
        assert session.wait_connected(10)
        assert publisher.wait_connected(10)
        for _ in range(4):
            publisher.publish(message("a/b", b"later"))
        assert until_the_mark() == set()  # not subscribed to again


def test_unsubscribing_without_a_broker_or_without_its_answer_is_not_confirmed(free_port) -> None:
    away = Session(settings_for(free_port()), client_id="p", subscriptions=[Subscription("a")])
    assert not away.unsubscribe("a")

    def mute(guest: socket.socket) -> None:
        read_packet(guest)
        guest.sendall(CONNACK_5)
        guest.sendall(bytes([0x90, 4, *read_packet(guest)[1][:2], 0, 1]))
        while True:
            read_packet(guest)

    with fake_broker(mute) as port:
        broker = settings_for(port)
        with running(broker, "p", subscriptions=[Subscription("a")]) as session:
            assert not session.unsubscribe("a", timeout_s=0.1)


POISON = {
    "payload format indicator 7": bytes([0x01, 7]),
    "payload format indicator twice": bytes([0x01, 1, 0x01, 1]),
    "content type that is not UTF-8": bytes([0x03, 0, 1, 0xFF]),
    "property of CONNECT": bytes([0x21, 0, 1]),
    "property that does not exist": bytes([0x7E, 1]),
    "property longer than the rest": bytes([0x03, 0, 200, 65]),
}


@pytest.mark.parametrize("properties", POISON.values(), ids=POISON.keys())
def test_properties_that_break_the_standard_end_nothing(properties: bytes) -> None:
    """Whatever a broker passes on: the message is taken without them, and acknowledged."""
    acknowledged: queue.Queue[bytes] = queue.Queue()

    def serve(guest: socket.socket) -> None:
        read_packet(guest)
        guest.sendall(CONNACK_5)
        guest.sendall(bytes([0x90, 4, *read_packet(guest)[1][:2], 0, 1]))
        body = b"\x00\x03a/b" + bytes([0, 9, len(properties)]) + properties + b"payload"
        guest.sendall(bytes([0x33, len(body)]) + body)
        while True:
            kind, answer = read_packet(guest)
            if kind == 0x40:
                acknowledged.put(answer)

    with fake_broker(serve) as port, listening(settings_for(port), "a/b", manual_ack=True) as inbox:
        got = inbox.get(timeout=5)
        assert (got.topic, got.payload, got.retain, got.user_properties) == ("a/b", b"payload", True, ())
        assert got.acknowledge()
        assert acknowledged.get(timeout=5)[:2] == b"\x00\x09"


def test_a_poisoned_retained_message_does_not_lock_out_a_kept_session(
    mosquitto_broker: MosquittoProcess,
) -> None:
    broker = settings_for(mosquitto_broker.port)
    body = b"\x00\x03a/b" + bytes([0, 1, 2, 0x01, 7]) + b"poison"
    with (
        listening(broker, "a/+", client_id="keeper", clean_start=False) as inbox,
        running(broker, "p") as publisher,
        socket.create_connection(("127.0.0.1", broker.port), 5) as raw,
    ):
        connect = b"\x00\x04MQTT\x05\x02\x00\x3c\x00" + b"\x00\x03raw"
        raw.sendall(bytes([0x10, len(connect)]) + connect)
        assert read_packet(raw)[0] == 0x20
        raw.sendall(bytes([0x33, len(body)]) + body)
        assert inbox.get(timeout=5).payload == b"poison"
        publisher.publish(message("a/b", b"good"))
        assert inbox.get(timeout=5).payload == b"good"
    with listening(broker, "a/+", client_id="another") as inbox:
        assert inbox.get(timeout=5).topic == "a/b"
