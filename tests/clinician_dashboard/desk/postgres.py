"""A PostgreSQL of our own on loopback."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.clinician_dashboard.desk.waiting import eventually


class PostgresServer:
    """A PostgreSQL of our own on loopback, with a password; it can crash and come back on the same port."""

    USER = "hemolink"
    PASSWORD = "not a secret: a server of one test run"

    def __init__(self, programs: Path, directory: Path, port: int) -> None:
        self._programs = programs
        self._directory = directory
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
            "fsync": "off",  # no power cut is tested here
            "shared_buffers": "16MB",
            "autovacuum": "off",
        }
        # PostgreSQL refuses to run as root.
        self._as = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}

    def create(self) -> None:
        password = self._directory / "password"
        password.write_text(self.PASSWORD)
        password.chmod(0o644)
        if self._as:
            shutil.chown(self._directory, "postgres", "postgres")
        subprocess.run(
            [
                *(self._programs / "initdb", "--pgdata", self._directory / "data", "--no-sync"),
                *("--username", self.USER, "--auth=scram-sha-256", "--pwfile", password),
                *("--encoding=UTF8", "--locale=C.UTF-8"),
            ],
            check=True,
            capture_output=True,
            cwd=self._directory,
            **self._as,
        )

    def start(self) -> None:
        with (self._directory / "log").open("a") as log:
            self._process = subprocess.Popen(
                [
                    *(self._programs / "postgres", "-D", self._directory / "data"),
                    *(part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")),
                ],
                stdout=log,
                stderr=log,
                cwd=self._directory,
                **self._as,
            )
        eventually(self._answers, within_s=60, what="PostgreSQL answers")

    def crash(self) -> None:
        """End at once, as after a power cut: every connection is lost, the next start recovers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(30)

    def secure(self, certificate: Path, key: Path) -> None:
        """Start anew with TLS."""
        self.crash()
        for source, name in ((certificate, "server.crt"), (key, "server.key")):
            kept = self._directory / "data" / name
            kept.write_bytes(source.read_bytes())
            kept.chmod(0o600)
            if self._as:
                shutil.chown(kept, "postgres", "postgres")
        self._settings["ssl"] = "on"
        self.start()

    def freeze(self, *, frozen: bool) -> None:
        """Stop answering, without closing a connection; or go on."""
        assert self._process is not None
        me = str(self._process.pid)
        children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
        for pid in (me, *children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGSTOP if frozen else signal.SIGCONT)

    def url(self, database: str) -> str:
        return f"postgresql://{self.USER}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, *, database: str = "postgres") -> list[Any]:
        address = sa.make_url(self.url(database)).set(drivername="postgresql+pg8000", password=self.PASSWORD)
        engine = sa.create_engine(address, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            answer = connection.exec_driver_sql(statement)
            return list(answer.all()) if answer.returns_rows else []

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "log").read_text()[-2000:]
        try:
            return bool(self.execute("select 1"))
        except sa.exc.DBAPIError:
            return False


def _postgres_programs() -> Path:
    """Return the folder of the server's programs, or end the test: skipped on a laptop, failed in CI."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    found = shutil.which("initdb")
    reason = (
        "" if found or folders else "is not installed: apt-get install postgresql, or scripts/test as root"
    )
    if not reason and os.geteuid() == 0:
        import pwd  # noqa: PLC0415

        try:
            pwd.getpwnam("postgres")
        except KeyError:
            reason = "refuses to run as root, and there is no user 'postgres': run the tests as another user"
    if reason:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"PostgreSQL {reason}")
    return Path(found).parent if found else folders[-1]


def run_postgres() -> Iterator[PostgresServer]:
    programs = _postgres_programs()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Beside pytest's own folders, which nobody but their user may enter.
    directory = Path(tempfile.mkdtemp(prefix="hemolink-postgres-"))
    directory.chmod(0o755)
    server = PostgresServer(programs, directory, port)
    try:
        server.create()
        server.start()
        yield server
    finally:
        if server._process is not None and server._process.poll() is None:
            server.freeze(frozen=False)
            server.crash()
        shutil.rmtree(directory, ignore_errors=True)
