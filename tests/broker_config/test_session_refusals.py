"""What a session says and does when a broker refuses it, or is none."""

import os
import queue
import re
import signal
import socket
from pathlib import Path

import pytest

from broker_config.errors import (
    ConnectionRefused,
    NotConnected,
)
from broker_config.mosquitto import MosquittoProcess, render_passwords
from broker_config.session import Session, Subscription
from tests.broker_config.session_parts import (
    CONNACK_5,
    eventually,
    fake_broker,
    message,
    read_packet,
    running,
    settings_for,
)

pytestmark = pytest.mark.mosquitto


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


def test_a_refused_subscription_that_is_not_required_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def serve(guest: socket.socket) -> None:
        read_packet(guest)
        guest.sendall(CONNACK_5)
        guest.sendall(bytes([0x90, 5, *read_packet(guest)[1][:2], 0, 1, 0x87]))
        read_packet(guest)

    with fake_broker(serve) as port:
        wanted = [Subscription("a"), Subscription("fleet/+/state", required=False)]
        with running(settings_for(port), "p", subscriptions=wanted) as session:
            assert session.connected
        session = Session(settings_for(port), client_id="p", subscriptions=[wanted[0], Subscription("b")])
        with pytest.raises(ConnectionRefused, match="refused the subscription b"):
            session.connect(5)
    assert "refused the subscription fleet/+/state (not authorized): allow it" in caplog.text


def test_a_revoked_credential_ends_the_connection_and_a_restored_one_brings_it_back(tmp_path: Path) -> None:
    users = tmp_path / "passwords"
    others = {"scope-2": "other"}
    granted = render_passwords({"scope-1": "right", **others})
    users.write_text(granted)
    with MosquittoProcess(tmp_path / "m", password_file=users) as server:

        def rewrite(text: str) -> None:
            users.write_text(text)
            os.kill(server.pid, signal.SIGHUP)

        (tmp_path / "secret").write_text("right\n")
        broker = settings_for(server.port, username="scope-1", password_file=tmp_path / "secret")
        other = settings_for(server.port, username="scope-2", password="other")
        told: queue.Queue[str] = queue.Queue()
        with (
            running(broker, "scope-1", on_disconnected=told.put) as session,
            running(other, "scope-2") as bystander,
        ):
            rewrite(render_passwords(others))
            assert told.get(timeout=10)
            # It keeps trying, and says what a person can do about it.
            eventually(
                lambda: "check broker.username and the content of broker.password_file" in session.last_error
            )
            with pytest.raises(NotConnected, match=r"broker\.password_file"):
                session.publish(message("a/b"))
            rewrite(granted)
            assert session.wait_connected(10)
            assert session.last_error == ""
            # A password changed on both sides needs no restart either.
            (tmp_path / "secret").write_text("changed\n")
            rewrite(render_passwords({"scope-1": "changed", **others}))
            assert told.get(timeout=10)
            assert session.wait_connected(10)
            assert bystander.connections == 1
