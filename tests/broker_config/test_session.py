"""The session over a real Mosquitto: acknowledged or an error, through outages, refusals and limits."""

import queue
import re
import socket
import threading
import time
from pathlib import Path

import pytest

from broker_config.delivery import Publication
from broker_config.errors import (
    ConnectionRefused,
    NotConnected,
    PayloadTooLarge,
    PublishRefused,
    PublishTimeout,
    SessionError,
)
from broker_config.mosquitto import MosquittoProcess, render_passwords
from broker_config.packets import packet_bytes
from broker_config.session import IncomingMessage, Session, Subscription, backoff_s
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

STATE = "hemolink/v1/clinic/scope-1/state"


def state(text: str) -> Publication:
    return Publication(STATE, text.encode(), retain=True)


def test_birth_goodbye_and_will(mosquitto_broker: MosquittoProcess) -> None:
    broker = settings_for(mosquitto_broker.port)
    births = iter(range(1, 100))
    options = {"birth": lambda: state(f"online {next(births)}"), "will": state("offline")}
    with listening(broker, STATE) as inbox:
        with running(broker, "scope-1", **options) as session:
            assert inbox.get(timeout=5).payload == b"online 1"
            session.stop(goodbye=state("goodbye"))
            assert inbox.get(timeout=5).payload == b"goodbye"
            assert not session.connected
        with running(broker, "scope-1", **options) as session:
            assert inbox.get(timeout=5).payload == b"online 2"
            # The network thread dies without DISCONNECT, as at a power cut.
            session._link._mailbox._reader.close()
            assert inbox.get(timeout=5).payload == b"offline"
            assert inbox.get(timeout=5).payload == b"online 3"
    with listening(broker, STATE) as inbox:
        last = inbox.get(timeout=5)
        assert (last.payload, last.retain) == (b"online 3", True)


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


def test_publish_until_acknowledged_gives_up_when_told(free_port) -> None:
    session = Session(settings_for(free_port()), client_id="p")
    session.start()
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(NotConnected, match="stopped before"):
        session.publish_until_acknowledged(message("a/b"), stop=stop)
    session.stop()


def test_a_kept_session_is_served_what_came_while_it_was_away(mosquitto_broker: MosquittoProcess) -> None:
    broker = settings_for(mosquitto_broker.port)
    with listening(broker, "a/+", client_id="keeper", clean_start=False):
        pass
    with running(broker, "p") as session:
        session.publish(message("a/b", b"while away"))
    with listening(broker, "a/+", client_id="keeper", clean_start=False) as inbox:
        assert inbox.get(timeout=5).payload == b"while away"


def test_a_wrong_password_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "passwords").write_text(render_passwords({"scope-1": "right"}))
    (tmp_path / "wrong").write_text("guess\n")
    (tmp_path / "right").write_text("right\n")
    with MosquittoProcess(tmp_path / "m", password_file=tmp_path / "passwords") as server:
        for protocol in ("5", "3.1.1"):
            broker = settings_for(server.port, protocol, username="scope-1", password_file=tmp_path / "wrong")
            session = Session(broker, client_id="scope-1")
            with pytest.raises(
                ConnectionRefused, match=r"check broker\.username and .*broker\.password_file"
            ):
                session.connect(5)
            assert not session.connected
        # A password file that is put right is read at the next try, without a restart.
        session = Session(broker, client_id="scope-1")
        session.start()
        eventually(lambda: "refused" in session.last_error)
        (tmp_path / "wrong").write_text("right\n")
        assert session.wait_connected(10)
        session.stop()
        missing = settings_for(server.port, username="scope-1", password_file=tmp_path / "none")
        with pytest.raises(NotConnected, match="none cannot be used"):
            Session(missing, client_id="scope-1").connect(0.5)


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


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", "did not answer MQTT 5 CONNECT"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "connection|did not answer"),
        (bytes([0x20, 2, 0, 1]), "did not answer MQTT 5|3.1.1"),
        (bytes([0x20, 3, 0, 0x84, 0]), r"set broker\.protocol to '3\.1\.1'"),
        (bytes([0x20, 3, 0, 0x8A, 0]), "this client is banned"),
        (bytes([0x20, 0xFF, 0xFF, 0xFF, 0xFF]), "connection|did not answer"),
    ],
    ids=["closes", "is a web server", "3.1.1's refusal", "5's refusal", "banned", "malformed"],
)
def test_a_port_that_answers_otherwise_is_told(answer: bytes, expected: str) -> None:
    def serve(guest: socket.socket) -> None:
        read_packet(guest)
        guest.sendall(answer)
        guest.shutdown(socket.SHUT_RDWR)

    with fake_broker(serve) as port:
        session = Session(settings_for(port), client_id="p")
        session.start()
        eventually(lambda: "not connected to" not in session.last_error)
        session_error = session.last_error
        assert not session.connected
        session.stop()
    assert re.search(expected, session_error), session_error


def test_a_port_that_never_answers_is_told_in_time() -> None:
    with fake_broker(lambda guest: read_packet(guest) and read_packet(guest)) as port:
        session = Session(settings_for(port, connect_timeout_s=0.2), client_id="p")
        with pytest.raises(NotConnected, match="did not answer MQTT 5 CONNECT"):
            session.connect(1.0)


def test_two_clients_of_one_name_are_told(mosquitto_broker: MosquittoProcess) -> None:
    # Mosquitto 2.0 closes the older connection without a word, so the pattern must tell.
    broker = settings_for(mosquitto_broker.port)
    told: queue.Queue[str] = queue.Queue()
    with (
        running(broker, "twin", on_disconnected=told.put),
        running(broker, "twin", on_disconnected=told.put),
    ):
        reasons: list[str] = []
        eventually(
            lambda: reasons.append(told.get(timeout=5)) or "give each a name of its own" in reasons[-1]
        )


def test_a_broker_that_names_the_takeover_is_believed() -> None:
    def serve(guest: socket.socket) -> None:
        read_packet(guest)
        guest.sendall(CONNACK_5 + bytes([0xE0, 2, 0x8E, 0]))
        read_packet(guest)

    told: queue.Queue[str] = queue.Queue()
    with fake_broker(serve) as port, running(settings_for(port), "twin", on_disconnected=told.put):
        assert "give every device and worker a name of its own" in told.get(timeout=5)


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
