"""The files of one site's Mosquitto, from nothing to frames over TLS, with the commands that a person would type."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from broker_config.authority import make_certificates
from broker_config.commands import broker as command
from broker_config.errors import BrokerFailed, NotConnected
from broker_config.mosquitto import find_mosquitto, render_configuration
from broker_config.session import Session
from broker_config.settings import BrokerSettings, Section, parse_settings
from broker_config.topics import Topics
from tests.broker_config.session_parts import eventually, listening, message, running, settings_for

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl makes the certificates: apt-get install openssl"
)


class Daemon(Section):
    broker: BrokerSettings


def typed(*arguments: object) -> str:
    done = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


@needs_openssl
@pytest.mark.mosquitto
def test_a_site_for_a_container_starts_and_serves(tmp_path: Path, free_port) -> None:
    """Made in one place and installed in another, as a folder that compose mounts."""
    port, made, installed = free_port(), tmp_path / "made", tmp_path / "mosquitto" / "config"
    typed("certificates", made, "--name", "broker", "--name", "127.0.0.1")
    typed(
        *("config", made, "--edge", "demo/scope-1", "--worker", "worker-1", "--dashboard", "board"),
        *("--host", "0.0.0.0", "--port", port, "--installed-at", installed),
        *("--data-at", tmp_path / "mosquitto" / "data", "--env-files"),
        *("--tls-ca", made / "ca.crt", "--tls-cert", made / "broker.crt", "--tls-key", made / "broker.key"),
    )
    assert all(path.stat().st_mode & 0o077 == 0 for path in (made / "secrets").iterdir())
    assert str(made) not in (made / "mosquitto.conf").read_text()
    # What compose mounts: these files, read-only, and the folder of the database; no member's secret, no authority's key.
    installed.mkdir(parents=True)
    (made / "data").rename(tmp_path / "mosquitto" / "data")
    for name in ("mosquitto.conf", "acl", "passwords", "ca.crt", "broker.crt", "broker.key"):
        shutil.copy(made / name, installed)
    configuration = installed / "mosquitto.conf"
    if os.geteuid() == 0:  # it would drop root's rights, and could not read a temporary directory of root's
        configuration.write_text(configuration.read_text() + "user root\n")
    with subprocess.Popen([find_mosquitto(), "-c", configuration], stderr=subprocess.DEVNULL) as server:
        try:

            def settings(name: str) -> object:
                lines = (made / "secrets" / f"{name}.env").read_text().splitlines()
                variables = dict(line.split("=", 1) for line in lines)
                text = f"broker: {{host: 127.0.0.1, port: {port}, tls: {{ca_file: {installed / 'ca.crt'}}}}}"
                return parse_settings(text, Daemon, environment=variables).broker

            edge, worker = settings("edge.demo.scope-1"), settings("worker.worker-1")
            with listening(worker, Topics().all_frames()) as inbox, running(edge, "scope-1") as session:
                session.publish(message(Topics().frame("demo", "scope-1", "stat"), b"frame"))
                assert inbox.get(timeout=5).payload == b"frame"
                assert session.maximum_packet_bytes == 16 * 1024 * 1024
                eventually(lambda: session.receive_maximum == 20)
            stranger = settings_for(port, tls={"ca_file": installed / "ca.crt"})
            with pytest.raises((NotConnected, Exception), match="refused"):
                Session(stranger, client_id="stranger").connect(5)
        finally:
            server.send_signal(signal.SIGTERM)


@needs_openssl
def test_an_authority_is_made_once_and_keys_are_this_users_alone(tmp_path: Path) -> None:
    first = make_certificates(tmp_path, ["broker"])
    authority, certificate = first.authority.read_bytes(), first.certificate.read_bytes()
    again = make_certificates(tmp_path, ["broker", "::1"])
    assert again.authority.read_bytes() == authority
    assert again.certificate.read_bytes() != certificate
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.glob("*.key"))
    assert {path.name for path in tmp_path.iterdir()} == {"ca.crt", "ca.key", "broker.crt", "broker.key"}


@pytest.mark.parametrize("name", ["", "a b", "x/../y", "DNS:evil,IP:1.2.3.4", "-\n"])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BrokerFailed, match="neither a host name nor an address"):
        make_certificates(tmp_path, [name])


def test_every_limit_is_explicit_and_reasoned() -> None:
    lines = render_configuration(directory=Path("/data")).splitlines()
    for option in (
        "max_packet_size 16777216",
        "max_inflight_messages 20",
        "max_queued_messages 50000",
        "max_queued_bytes 268435456",
        "max_keepalive 600",
        "set_tcp_nodelay true",
        "persistence true",
        "autosave_interval 60",
    ):
        assert option in lines
    reasons = "\n".join(line for line in lines if line.startswith("#"))
    assert "every device's retained state at once" in reasons


@pytest.mark.mosquitto
def test_a_late_subscriber_gets_every_retained_state_of_a_large_site(mosquitto_broker) -> None:
    """With the 1,000 of many a configuration, what is beyond it would be dropped without a word."""
    broker = settings_for(mosquitto_broker.port)
    topics = {Topics().state("clinic", f"scope-{number}") for number in range(1500)}
    with running(broker, "p") as session:
        for future in [session.publish_soon(message(topic, retain=True)) for topic in sorted(topics)[:750]]:
            future.result(20)
        for future in [session.publish_soon(message(topic, retain=True)) for topic in sorted(topics)[750:]]:
            future.result(20)
    with listening(broker, Topics().all_of("state")) as inbox:
        assert {inbox.get(timeout=10).topic for _ in topics} == topics
