"""The plant's Mosquitto: users, rules and persistence as ``hemolink broker`` writes them, and what can befall it."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from broker_config.mosquitto import find_mosquitto, render_passwords
from broker_config.roles import Member as Role
from broker_config.site import SiteFiles, write_site
from hemolink.bench.faults.member import tethered
from hemolink.bench.faults.ports import answers, free_port

ECHO = "echo"
"""User that may publish and receive everything: the source of stale copies."""

ECHO_PASSWORD = "heard-before"  # noqa: S105 - of a broker on the loopback that lives for minutes


class Broker:
    """Mosquitto on a tether, with one credential and one set of rules for each client.

    Args:
        directory: Where its files go.
        roles: Its users.
        max_packet_bytes: Largest packet it takes.
        user: Account to run as, if not its own default.
    """

    def __init__(
        self, directory: Path, roles: Sequence[Role], *, max_packet_bytes: int, user: str | None
    ) -> None:
        self._directory = directory
        self._roles = tuple(roles)
        self._max_packet_bytes = max_packet_bytes
        self._user = user
        self._files: SiteFiles | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._passwords: dict[str, str] = {}
        self.port = 0
        self.log_path = directory.parent / "logs" / "broker.log"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return "127.0.0.1", self.port

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The process last started, if any."""
        return self._process

    def prepare(self) -> None:
        """Write its files; afterwards `password_file` knows each user's.

        Raises:
            BrokerFailed: If they cannot be written.
        """
        self.port = free_port()
        self._files = write_site(
            self._directory,
            self._roles,
            port=self.port,
            max_packet_bytes=self._max_packet_bytes,
            user=self._user,
        )
        with self._files.acl.open("a", encoding="utf-8") as rules:
            rules.write(f"\nuser {ECHO}\ntopic readwrite hemolink/#\n")
        lines = self._files.passwords.read_text(encoding="utf-8").splitlines(keepends=True)
        lines.append(render_passwords({ECHO: ECHO_PASSWORD}))
        self._passwords = {line.partition(":")[0]: line for line in lines}
        self._write_passwords()

    def password_file(self, role: Role) -> Path:
        """Return the file that holds a user's password."""
        return self._written.secrets[role.username]

    def start(self) -> None:
        """Start it without waiting."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the path was looked up, the arguments are ours
                [*tethered(str(find_mosquitto())), "-c", str(self._written.configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def fault(self) -> str:
        """Return why it is not ready, or nothing if it is."""
        return "" if answers(self.port) else f"port {self.port} does not answer"

    def forget(self) -> None:
        """Delete its database of retained messages and kept sessions; it must not run."""
        for path in (self._directory / "data").glob("mosquitto.db*"):
            path.unlink()

    def revoke(self, role: Role) -> None:
        """Take a user out of the password file; SIGHUP makes the broker read it."""
        self._write_passwords(without=role.username)

    def restore(self) -> None:
        """Put every user back."""
        self._write_passwords()

    @property
    def _written(self) -> SiteFiles:
        if self._files is None:
            raise RuntimeError("prepare() comes first")
        return self._files

    def _write_passwords(self, *, without: str = "") -> None:
        text = "".join(line for user, line in self._passwords.items() if user != without)
        self._written.passwords.write_text(text, encoding="utf-8")
