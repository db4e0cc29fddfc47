"""Mosquitto: its configuration, its files of users and rules, and running it as a child process."""

import base64
import hashlib
import logging
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from broker_config.errors import BrokerFailed

logger = logging.getLogger(__name__)

MAX_PACKET_BYTES = 16 * 1024 * 1024
"""What our configurations let a packet have: room for a PNG of a five-megapixel frame."""

MAX_INFLIGHT = 20
MAX_QUEUED = 50_000
MAX_KEEPALIVE_S = 600
_START_S = 10.0
_PASSWORD_ITERATIONS = 1000
_PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")


@dataclass(frozen=True)
class ServerTls:
    """The broker's side of TLS.

    Attributes:
        ca_file: The authority that signed the clients' certificates, PEM.
        cert_file: The broker's certificate, PEM.
        key_file: Its key, PEM.
        require_certificate: Whether every client must show a certificate.
        identity_as_username: Whether the certificate's common name is the user name for the access rules.
    """

    ca_file: Path
    cert_file: Path
    key_file: Path
    require_certificate: bool = False
    identity_as_username: bool = False


def render_configuration(
    *,
    directory: Path,
    host: str = "127.0.0.1",
    port: int = 1883,
    password_file: Path | None = None,
    acl_file: Path | None = None,
    tls: ServerTls | None = None,
    max_packet_bytes: int = MAX_PACKET_BYTES,
    max_inflight: int = MAX_INFLIGHT,
    user: str | None = None,
    log_file: Path | None = None,
) -> str:
    """Return the text of a ``mosquitto.conf`` for Mosquitto 2.0 or newer, one listener.

    Without a password file and without required certificates anyone may connect, which is allowed on the loopback
    only.

    Args:
        directory: Where the broker keeps its database of retained messages and kept sessions.
        host: Address to listen on.
        port: Port to listen on.
        password_file: Users, from `render_passwords`.
        acl_file: Access rules, from `broker_config.roles.render_acl`.
        tls: Certificates; plain TCP if none.
        max_packet_bytes: Largest packet; announced to MQTT 5 clients.
        max_inflight: Unacknowledged messages in each direction; announced to MQTT 5 clients as Receive Maximum.
        user: Account to run as; Mosquitto's own default if none.
        log_file: Where to log; standard error if none.

    Raises:
        BrokerFailed: If it would be open to anyone on other than the loopback, or a path cannot stand in the file.
    """
    authenticated = password_file is not None or (tls is not None and tls.require_certificate)
    if not authenticated and host not in ("127.0.0.1", "::1", "localhost"):
        raise BrokerFailed(
            f"a broker on {host} without users would be open to anyone: give it a password file, or TLS with "
            "required certificates, or let it listen on 127.0.0.1"
        )
    lines = [
        "# Mosquitto 2.0 or newer; made by hemolink, change it there.",
        "per_listener_settings false",
        f"listener {port} {host}",
        f"allow_anonymous {'false' if authenticated else 'true'}",
        "allow_zero_length_clientid false",
        "",
        "# Limits. Explicit, because the defaults differ between versions (2.1 takes packets of 2,000,000 bytes).",
        "# A frame as PNG fits; a larger one is parked at its edge with a sentence, since edges know this figure.",
        f"max_packet_size {max_packet_bytes}",
        "# Unacknowledged frames towards a worker or from an edge: enough for a window over a site's network, and few",
        "# are in the hands of one that dies.",
        f"max_inflight_messages {max_inflight}",
        "# What waits for one client: every device's retained state at once for one that comes late (more than that",
        "# would be dropped without a word), and frames for a kept session that is away, as far as memory goes.",
        f"max_queued_messages {MAX_QUEUED}",
        f"max_queued_bytes {16 * max_packet_bytes}",
        "# A kept session of a record or worker that never came back; frames are safe at their edges all the same.",
        "persistent_client_expiration 7d",
        "# A client may not put off for longer than 1.5 times this that its silence, and so its will, is noticed.",
        f"max_keepalive {MAX_KEEPALIVE_S}",
        "# An acknowledgement is a few bytes and must not wait for more to come.",
        "set_tcp_nodelay true",
        "",
        "# Retained states and kept sessions survive a restart; after a crash, those of a minute before at the latest.",
        "persistence true",
        f"persistence_location {directory}/",
        "autosave_interval 60",
        "autosave_on_changes false",
        "",
        "sys_interval 10",
        f"log_dest {f'file {log_file}' if log_file else 'stderr'}",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "log_timestamp_format %Y-%m-%dT%H:%M:%S",
    ]
    if tls is not None:
        lines += [
            "",
            f"cafile {tls.ca_file}",
            f"certfile {tls.cert_file}",
            f"keyfile {tls.key_file}",
            "tls_version tlsv1.2",
            f"require_certificate {str(tls.require_certificate).lower()}",
        ]
        if tls.identity_as_username:
            lines.append("use_identity_as_username true")
    if password_file is not None:
        lines.append(f"password_file {password_file}")
    if acl_file is not None:
        lines.append(f"acl_file {acl_file}")
    if user is not None:
        lines.append(f"user {user}")
    for line in lines:
        if not line.isprintable():
            raise BrokerFailed(
                f"{line!r} cannot stand in mosquitto.conf: use paths without control characters"
            )
    return "\n".join(lines) + "\n"


def render_passwords(passwords: Mapping[str, str]) -> str:
    """Return the text of a Mosquitto password file.

    Passwords are salted and hashed (PBKDF2 with SHA-512, Mosquitto's ``$7$`` form), as ``mosquitto_passwd`` does.

    Args:
        passwords: Password by user name.

    Raises:
        BrokerFailed: If a user name cannot stand in the file.
    """
    lines = []
    for user, password in passwords.items():
        if not user or ":" in user or not user.isprintable():
            raise BrokerFailed(
                f"user name {user!r} cannot stand in a password file: use printable text without ':'"
            )
        salt = secrets.token_bytes(12)
        digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _PASSWORD_ITERATIONS)
        encoded = "$".join(base64.b64encode(part).decode() for part in (salt, digest))
        lines.append(f"{user}:$7${_PASSWORD_ITERATIONS}${encoded}\n")
    return "".join(lines)


def find_mosquitto() -> Path:
    """Return the path of the system's Mosquitto.

    Raises:
        BrokerFailed: If it is not installed.
    """
    found = shutil.which("mosquitto", path=os.pathsep.join([os.environ.get("PATH", ""), *_PLACES]))
    if found is None:
        raise BrokerFailed(
            "Mosquitto is not installed: 'apt-get install mosquitto' (Debian, Ubuntu), 'brew install mosquitto' "
            "(macOS), or use the embedded broker"
        )
    return Path(found)


class MosquittoProcess:
    """The system's Mosquitto as a child process, on one machine.

    After `stop` it can be started again and then listens on the same port, with its retained messages.

    Args:
        directory: Where its configuration, database and log go; made if missing.
        host: Address to listen on.
        port: Port, or 0 for any free one.
        password_file: Users; anyone on the loopback if none.
        acl_file: Access rules; everything is allowed if none.
        tls: Certificates; plain TCP if none.
        max_packet_bytes: Largest packet.
        max_inflight: Unacknowledged messages in each direction.
    """

    def __init__(
        self,
        directory: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        password_file: Path | None = None,
        acl_file: Path | None = None,
        tls: ServerTls | None = None,
        max_packet_bytes: int = MAX_PACKET_BYTES,
        max_inflight: int = MAX_INFLIGHT,
    ) -> None:
        self._directory = Path(directory).absolute()
        self.host = host
        self.port = port
        self._any_port = port == 0
        self._password_file = password_file
        self._acl_file = acl_file
        self._tls = tls
        self._max_packet_bytes = max_packet_bytes
        self._max_inflight = max_inflight
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log_file(self) -> Path:
        """Where it logs."""
        return self._directory / "mosquitto.log"

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id, for signals: SIGHUP makes it read its users and rules anew."""
        if self._process is None:
            raise BrokerFailed("Mosquitto does not run: start it first")
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it listens.

        Raises:
            BrokerFailed: If Mosquitto is not installed or does not come up; with the end of its log.
        """
        if self.running:
            return
        executable = find_mosquitto()
        self._directory.mkdir(parents=True, exist_ok=True)
        tries = 3 if self._any_port and self.port == 0 else 1
        for attempt in range(1, tries + 1):
            if self._any_port and (self.port == 0 or attempt > 1):
                self.port = _free_port(self.host)
            try:
                self._launch(executable)
            except BrokerFailed:
                # Between our look and its bind another process may have taken the port.
                if attempt == tries:
                    raise
            else:
                return

    def stop(self, timeout_s: float = 5.0) -> None:
        """End it, letting it save its database. Harmless when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End it as a power cut would: nothing is saved."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _launch(self, executable: Path) -> None:
        configuration = self._directory / "mosquitto.conf"
        configuration.write_text(
            render_configuration(
                directory=self._directory,
                host=self.host,
                port=self.port,
                password_file=self._password_file,
                acl_file=self._acl_file,
                tls=self._tls,
                max_packet_bytes=self._max_packet_bytes,
                max_inflight=self._max_inflight,
                # It drops root's rights, and could then not read a temporary directory of root's.
                user="root" if os.geteuid() == 0 else None,
            ),
            encoding="utf-8",
        )
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the path was looked up, the arguments are ours
                [str(executable), "-c", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal reaches us, and we end it in our own order
            )
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if _answers(self.host, self.port):
                return
            time.sleep(0.02)
        code = self._process.poll()
        self.stop()
        what = f"ended with code {code}" if code is not None else f"did not listen within {_START_S:g} s"
        raise BrokerFailed(
            f"Mosquitto on {self.host}:{self.port} {what}: {self._last_words()} (whole log: {self.log_file})"
        )

    def _last_words(self) -> str:
        try:
            lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        return " / ".join(lines[-3:]) or "it said nothing"


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False
