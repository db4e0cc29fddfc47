"""The embedded broker: what it does, and what we do about what it cannot."""

import logging
import queue
import socket
import threading
import time
from contextlib import ExitStack, suppress

import pytest

from broker_config.delivery import Publication
from broker_config.embedded import EmbeddedBroker
from broker_config.errors import BrokerFailed, ConnectionRefused, PayloadTooLarge
from broker_config.session import IncomingMessage, Session, Subscription
from tests.broker_config.rough_line import RoughLine
from tests.broker_config.session_parts import eventually, listening, message, running, settings_for

STATE = "hemolink/v1/clinic/scope-1/state"


def state(text: str) -> Publication:
    return Publication(STATE, text.encode(), retain=True)


def test_birth_will_and_goodbye(embedded_broker: EmbeddedBroker) -> None:
    broker = settings_for(embedded_broker.port, "3.1.1")
    with (
        listening(broker, STATE) as inbox,
        RoughLine(broker.port) as line,
        running(
            settings_for(line.port, "3.1.1"),
            "scope-1",
            birth=lambda: state("online"),
            will=state("offline"),
        ) as session,
    ):
        assert inbox.get(timeout=5).payload == b"online"
        line.cut()  # without DISCONNECT
        # The will of the connection that was lost comes before the birth of the next one, never after it.
        assert [inbox.get(timeout=5).payload for _ in range(2)] == [b"offline", b"online"]
        session.stop(goodbye=state("goodbye"))
        assert inbox.get(timeout=5).payload == b"goodbye"
    with listening(broker, STATE) as inbox:
        last = inbox.get(timeout=5)
        assert (last.payload, last.retain) == (b"goodbye", True)


def test_large_frames_come_whole_and_acknowledged(embedded_broker: EmbeddedBroker) -> None:
    broker = settings_for(embedded_broker.port, "3.1.1")
    with listening(broker, "a/+", manual_ack=True) as inbox, running(broker, "p") as session:
        assert session.receive_maximum == 20
        futures = [session.publish_soon(message("a/b", bytes([n]) * 300_000)) for n in range(40)]
        assert all(future.result(20).reason_code == 0 for future in futures)
        for _ in range(40):
            got = inbox.get(timeout=10)
            assert len(set(got.payload)) == 1
            assert len(got.payload) == 300_000
            assert got.acknowledge()


def test_mqtt_5_is_refused_with_the_remedy(embedded_broker: EmbeddedBroker) -> None:
    with pytest.raises(ConnectionRefused, match=r"set broker\.protocol to '3\.1\.1'"):
        Session(settings_for(embedded_broker.port, "5"), client_id="p").connect(5)


def test_a_shared_subscription_is_refused_rather_than_silent(embedded_broker: EmbeddedBroker) -> None:
    session = Session(
        settings_for(embedded_broker.port, "3.1.1"), client_id="w", subscriptions=[Subscription("a/+")]
    )
    object.__setattr__(session._options, "subscriptions", (Subscription("$share/pool/a/+"),))
    with pytest.raises(ConnectionRefused, match="the embedded one has no shared subscriptions"):
        session.connect(5)


def test_retained_states_do_not_reach_those_who_did_not_ask(embedded_broker: EmbeddedBroker) -> None:
    # amqtt sends every retained message that any client's filter matches to every client that connects.
    broker = settings_for(embedded_broker.port, "3.1.1")
    with (
        listening(broker, "hemolink/v1/+/+/state", client_id="first") as first,
        running(broker, "p") as session,
    ):
        session.publish(state("online"))
        assert first.get(timeout=5).payload == b"online"
        for clean_start in (True, False, False):
            with listening(broker, "other/#", client_id="second", clean_start=clean_start) as inbox:
                session.publish(message("other/x", b"mine"))
                assert inbox.get(timeout=5).payload == b"mine"
    with listening(broker, STATE, client_id="third") as third:
        assert third.get(timeout=5).retain


def test_a_client_that_falls_silent_is_given_up_and_its_will_comes(embedded_broker: EmbeddedBroker) -> None:
    broker = settings_for(embedded_broker.port, "3.1.1")
    with (
        listening(broker, STATE) as inbox,
        RoughLine(broker.port) as line,
        running(
            settings_for(line.port, "3.1.1", keepalive_s=1, connect_timeout_s=1),
            "scope-1",
            will=state("offline"),
        ) as session,
        running(settings_for(embedded_broker.port, "3.1.1", keepalive_s=1), "alive") as other,
    ):
        line.go_dead()  # no FIN, no RST, as when a cable is pulled
        assert inbox.get(timeout=8).payload == b"offline"
        line.recover()
        eventually(lambda: session.connections == 2 and session.connected)
        assert other.connections == 1  # one that answers pings is left alone


def test_what_was_in_flight_to_a_subscriber_that_drops_is_gone_and_a_resend_replaces_it(
    embedded_broker: EmbeddedBroker,
) -> None:
    """Why the edge resends until it has a receipt: the PUBACK came, and nobody had the frame."""
    broker = settings_for(embedded_broker.port, "3.1.1")
    with RoughLine(broker.port) as line, running(broker, "edge") as edge:
        told: queue.Queue[str] = queue.Queue()
        options = {
            "client_id": "worker",
            "manual_ack": True,
            "clean_start": False,
            "on_disconnected": told.put,
        }
        with listening(settings_for(line.port, "3.1.1"), "a/+", **options) as inbox:
            assert edge.publish(message("a/b", b"frame")).reason_code == 0
            lost = inbox.get(timeout=5)
            line.cut()
            assert told.get(timeout=10)
            assert lost.acknowledge() is False
            # Whether the broker sends it again by itself does not matter; that a resend arrives does.
            eventually(lambda: edge.publish(message("a/b", b"again")) and not inbox.empty())
            assert inbox.get(timeout=5).payload in (b"frame", b"again")


@pytest.mark.slow
def test_a_subscriber_that_takes_its_time_over_an_acknowledgement_is_served_on(
    embedded_broker: EmbeddedBroker,
) -> None:
    # amqtt has no window: it sends everything at once, and waits five seconds for an acknowledgement, then forgets.
    broker = settings_for(embedded_broker.port, "3.1.1")
    with listening(broker, "a/+", manual_ack=True) as inbox, running(broker, "p") as session:
        for number in range(200):
            session.publish(message("a/b", b"%d" % number))
        held = [inbox.get(timeout=5) for _ in range(200)]
        time.sleep(5.5)  # the broker's own figure, and nothing to poll
        assert all(one.acknowledge() for one in held)
        session.publish(message("a/b", b"next"))
        assert inbox.get(timeout=5).payload == b"next"


def test_what_is_published_at_qos_0_arrives(embedded_broker: EmbeddedBroker) -> None:
    # amqtt delivers it at QoS 1: more than was asked for, and our handlers acknowledge whatever comes.
    broker = settings_for(embedded_broker.port, "3.1.1")
    with listening(broker, "a/+") as inbox, running(broker, "p") as session:
        session.publish(message("a/b", qos=0))
        assert inbox.get(timeout=5).qos in (0, 1)


def test_there_are_no_access_rules_not_for_a_will_either(embedded_broker: EmbeddedBroker) -> None:
    """Said in README and docstring, and why it listens on the loopback alone."""
    broker = settings_for(embedded_broker.port, "3.1.1")
    foreign = Publication("hemolink/v1/other/device/state", b"offline", retain=True)
    with (
        listening(broker, "hemolink/#") as inbox,
        RoughLine(broker.port) as line,
        running(settings_for(line.port, "3.1.1"), "scope-1", will=foreign) as session,
    ):
        session.publish(message("hemolink/v1/other/device/diagnosis", b"anybody's"))
        assert inbox.get(timeout=5).payload == b"anybody's"
        line.cut()
        assert inbox.get(timeout=5).topic == foreign.topic


def test_a_large_late_audience_gets_every_retained_state(embedded_broker: EmbeddedBroker) -> None:
    broker = settings_for(embedded_broker.port, "3.1.1")
    topics = {f"hemolink/v1/clinic/scope-{number}/state" for number in range(60)}
    with running(broker, "p") as session:
        for topic in topics:
            session.publish(message(topic, retain=True))
        with listening(broker, "hemolink/v1/+/+/state") as inbox:
            assert {inbox.get(timeout=5).topic for _ in topics} == topics


def test_it_starts_again_on_its_port_and_sessions_come_back() -> None:
    server = EmbeddedBroker()
    server.start()
    broker = settings_for(server.port, "3.1.1")
    with running(broker, "p") as session:
        server.stop()
        assert not server.running
        eventually(lambda: not session.connected)
        result: queue.Queue[object] = queue.Queue()
        thread = threading.Thread(
            target=lambda: result.put(
                session.publish_until_acknowledged(message("a/b"), stop=threading.Event())
            )
        )
        thread.start()
        server.start()
        assert server.port == broker.port
        assert result.get(timeout=10)
        thread.join(5)
    server.stop()
    server.stop()


def test_it_stops_at_once_while_a_subscriber_withholds_acknowledgements(
    embedded_broker: EmbeddedBroker,
) -> None:
    broker = settings_for(embedded_broker.port, "3.1.1")
    with listening(broker, "a/+", manual_ack=True) as inbox, running(broker, "p") as session:
        session.publish(message("a/b"))
        inbox.get(timeout=5)
        embedded_broker.stop()
        assert not embedded_broker.running
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", broker.port)) != 0


@pytest.mark.parametrize(
    "noise",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x10\xff\xff\xff\xff\xff",
        b"\x10\x0c\x00\x04MQTT\x04",
        b"\x10\x04\xff\xff",
        b"\x00" * 50,
    ],
)
def test_noise_on_the_port_disturbs_nobody(embedded_broker: EmbeddedBroker, noise: bytes) -> None:
    broker = settings_for(embedded_broker.port, "3.1.1")
    with listening(broker, "a/+") as inbox, running(broker, "p") as session:
        with socket.create_connection(("127.0.0.1", broker.port)) as guest:
            guest.sendall(noise)
        session.publish(message("a/b"))
        assert inbox.get(timeout=5)


def test_a_taken_port_and_an_open_address_are_refused(embedded_broker: EmbeddedBroker) -> None:
    with pytest.raises(BrokerFailed, match="choose a free port, or 0 for any"):
        EmbeddedBroker(port=embedded_broker.port).start()
    with pytest.raises(BrokerFailed, match="may not listen on"):
        EmbeddedBroker(host="0.0.0.0").start()


def test_the_own_packet_limit_counts(embedded_broker: EmbeddedBroker) -> None:
    broker = settings_for(embedded_broker.port, "3.1.1", max_packet_bytes=2_000)
    with running(broker, "p") as session, pytest.raises(PayloadTooLarge):
        session.publish(message("a/b", b"x" * 2_000))


def test_it_ends_without_a_traceback_while_clients_are_there(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="broker_config.embedded")
    server = EmbeddedBroker()
    server.start()
    broker = settings_for(server.port, "3.1.1")
    with ExitStack() as clients:
        for number in range(4):
            clients.enter_context(listening(broker, "a/+", client_id=f"c{number}"))
        clients.enter_context(socket.create_connection(("127.0.0.1", server.port)))  # says nothing
        server.stop()
    assert "CancelledError" not in caplog.text


def test_of_two_clients_of_one_name_the_later_has_the_name(embedded_broker: EmbeddedBroker) -> None:
    broker = settings_for(embedded_broker.port, "3.1.1")
    connect = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04twin"
    with socket.create_connection(("127.0.0.1", broker.port), 5) as first, running(broker, "p") as publisher:
        first.sendall(connect)
        assert first.recv(4) == b"\x20\x02\x00\x00"
        for _ in range(2):
            with listening(broker, "a", client_id="twin") as later:
                with suppress(ConnectionResetError):
                    assert first.recv(1) == b""
                publisher.publish(message("a"))
                assert later.get(timeout=5)


def test_unsubscribing_is_confirmed(embedded_broker: EmbeddedBroker) -> None:
    broker = settings_for(embedded_broker.port, "3.1.1")
    inbox: queue.Queue[IncomingMessage] = queue.Queue()
    subscriptions = [Subscription("a"), Subscription("b")]
    with (
        running(broker, "p") as publisher,
        running(broker, "s", subscriptions=subscriptions, on_message=inbox.put) as session,
    ):
        publisher.publish(message("a"))
        assert inbox.get(timeout=5).topic == "a"
        assert session.unsubscribe("a")
        publisher.publish(message("a"))
        publisher.publish(message("b"))
        assert inbox.get(timeout=5).topic == "b"
