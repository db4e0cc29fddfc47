"""Makers of messages, a running dashboard, and a client of the broker that plays edge and worker."""

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import sqlalchemy as sa

from broker_config.delivery import Publication, publication
from broker_config.messages import (
    CLASSES,
    DeviceState,
    Diagnosis,
    Frame,
    ModelIdentity,
    Quality,
    Receipt,
    Rejection,
    Timings,
    WorkerState,
    new_frame_id,
)
from broker_config.session import Session, Subscription
from broker_config.settings import BrokerSettings
from broker_config.topics import Topics
from clinician_dashboard.dashboard import Dashboard
from clinician_dashboard.record import Record
from clinician_dashboard.settings import Settings

WEIGHTS = hashlib.sha256(b"weights").hexdigest()


def jpeg(seed: int, *, width: int = 160, height: int = 120) -> bytes:
    """A small picture with a dark disc; each seed another."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(200, 240, (height, width, 3), dtype=np.uint8)
    cv2.circle(picture, (width // 2, height // 2), height // 4, (140, 60, 110), -1)
    ok, encoded = cv2.imencode(".jpg", picture)
    assert ok
    return encoded.tobytes()


class Maker:
    """Makes messages of one device."""

    def __init__(self, site: str = "ward", device: str = "scope-1") -> None:
        self.site = site
        self.device = device
        self.count = 0

    def frame(self, case: str = "HL-0001", **changes: Any) -> Frame:
        self.count += 1
        image = changes.pop("image", None) or jpeg(self.count)
        fields: dict[str, Any] = {
            "frame_id": new_frame_id(),
            "case": case,
            "site": self.site,
            "device": self.device,
            "sequence": self.count,
            "captured_at": datetime.now(UTC) - timedelta(seconds=1) + timedelta(milliseconds=self.count),
            "encoding": "jpeg",
            "width": 160,
            "height": 120,
            "pixel_size_um": 0.5,
            "quality": Quality(focus=40.0, focus_threshold=10.0, brightness=0.7, foreground=0.3),
            "image": image,
            "image_sha256": hashlib.sha256(image).hexdigest(),
        }
        return Frame(**(fields | changes))

    def diagnosis(
        self, frame: Frame, leading: str = "AML", *, top: float = 0.92, **changes: Any
    ) -> Diagnosis:
        rest = (1 - top) / 4
        grid = [[max(0.0, 1 - ((x - 3) ** 2 + (y - 3) ** 2) / 8) for x in range(7)] for y in range(7)]
        fields: dict[str, Any] = {
            "frame_id": frame.frame_id,
            "case": frame.case,
            "site": frame.site,
            "device": frame.device,
            "captured_at": frame.captured_at,
            "diagnosed_at": datetime.now(UTC),
            "worker": "worker-1",
            "model": ModelIdentity(
                name="resnet34-test",
                version="1.0.0",
                weights_sha256=WEIGHTS,
                architecture="resnet34",
                engine="openvino-bf16",
                training_data="test images",
            ),
            "probabilities": {name: top if name == leading else rest for name in CLASSES},
            "prediction": leading,
            "prediction_set": (leading,),
            "decision": "report",
            "quality": frame.quality,
            "ood_score": 12.0,
            "ood_threshold": 20.0,
            "activation": grid,
            "timings": Timings(queue_ms=4, decode_ms=2, inference_ms=6),
            "image_sha256": frame.image_sha256,
            "frame_simulated": frame.simulated,
        }
        return Diagnosis(**(fields | changes))

    def rejection(self, frame: Frame, **changes: Any) -> Rejection:
        fields: dict[str, Any] = {
            "frame_id": frame.frame_id,
            "case": frame.case,
            "site": frame.site,
            "device": frame.device,
            "code": "corrupt_image",
            "reason": "the image cannot be decoded",
            "payload_bytes": len(frame.image),
            "payload_sha256": hashlib.sha256(frame.image).hexdigest(),
            "by": "worker-1",
            "at": datetime.now(UTC),
        }
        return Rejection(**(fields | changes))

    def state(self, *, birth: int = 1, **changes: Any) -> DeviceState:
        fields: dict[str, Any] = {
            "site": self.site,
            "device": self.device,
            "presence": "online",
            "birth": birth,
            "at": datetime.now(UTC),
            "camera": "test camera",
        }
        return DeviceState(**(fields | changes))


@pytest.fixture
def make() -> Maker:
    return Maker()


@pytest.fixture
def another() -> Callable[..., Maker]:
    return Maker


def eventually(true: Callable[[], Any], *, within_s: float = 10.0, what: str = "") -> Any:
    """Wait until ``true()`` is, and return it."""
    deadline = time.monotonic() + within_s
    while True:
        value = true()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"did not happen within {within_s} s: {what or true}")
        time.sleep(0.02)


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., Any]:
    return eventually


@dataclass
class Far:
    """The other side of the broker: publishes as edge and worker do, and hears receipts."""

    session: Session
    topics: Topics = field(default_factory=Topics)
    receipts: list[Receipt] = field(default_factory=list)

    def send(self, *messages: Any) -> None:
        for message in messages:
            self.session.publish(publication(self._topic(message), message))

    def raw(self, topic: str, payload: bytes) -> None:
        self.session.publish(Publication(topic=topic, payload=payload))

    def recorded(self) -> list[str]:
        return [receipt.frame_id for receipt in self.receipts if receipt.status == "recorded"]

    def _topic(self, message: Any) -> str:
        match message:
            case Frame():
                return self.topics.frame(message.site, message.device, message.priority)
            case Diagnosis():
                return self.topics.diagnosis(message.site, message.device)
            case Rejection():
                return self.topics.rejected(message.site, message.device)
            case DeviceState():
                return self.topics.state(message.site, message.device)
            case WorkerState():
                return self.topics.worker_state(message.worker)
        raise AssertionError(message)


@contextmanager
def connect(port: int, *, protocol: str) -> Iterator[Far]:
    heard: list[Receipt] = []
    session = Session(
        BrokerSettings(port=port, protocol=protocol),
        client_id="test-far-side",
        subscriptions=[Subscription(Topics().all_of("receipt"))],
        on_message=lambda message: heard.append(Receipt.model_validate_json(message.payload)),
    )
    session.start()
    assert session.wait_connected(10)
    try:
        yield Far(session, receipts=heard)
    finally:
        session.stop()


@pytest.fixture
def far_side() -> Callable[..., Any]:
    return connect


@dataclass
class Desk:
    """A running dashboard and a client of its pages."""

    dashboard: Dashboard
    http: httpx.Client
    stop: Callable[[], None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.dashboard.port}"

    def summary(self) -> dict[str, Any]:
        return self.http.get("/api/v1/summary").raise_for_status().json()


@contextmanager
def run_desk(port: int, directory: Path, *, protocol: str, **changes: Any) -> Iterator[Desk]:
    settings = Settings(
        broker=BrokerSettings(port=port, protocol=protocol), directory=directory, port=0, **changes
    )
    dashboard = Dashboard(settings)
    dashboard.start()
    stopped = threading.Event()

    def stop() -> None:
        if not stopped.is_set():
            stopped.set()
            http.close()
            dashboard.stop()

    http = httpx.Client(base_url=f"http://127.0.0.1:{dashboard.port}", timeout=10)
    try:
        eventually(lambda: dashboard.ready()[0], what="the dashboard is ready")
        yield Desk(dashboard, http, stop)
    finally:
        stop()


@pytest.fixture
def desk() -> Callable[..., Any]:
    return run_desk


@dataclass
class DeskProcess:
    """The real daemon as a process of its own, to be killed and started again."""

    settings: Path
    directory: Path
    program: tuple[str, ...] = ("-m", "clinician_dashboard")
    environment: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self, *, ready: bool = True, **environment: str) -> None:
        ports = self.directory / "dashboard.port.json"
        ports.unlink(missing_ok=True)
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.program, "--settings", str(self.settings)],
                env={**os.environ, **self.environment, **environment},
                stderr=log,
            )
        eventually(
            lambda: ports.exists() or not self.alive, within_s=60, what="the daemon announces its port"
        )
        if ready and self.alive:
            eventually(self._is_ready, within_s=60, what="the daemon is ready")

    @property
    def log(self) -> Path:
        return self.settings.with_suffix(".log")

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{json.loads((self.directory / 'dashboard.port.json').read_text())['web']}"

    def get(self, path: str) -> httpx.Response:
        # Without the certificates, which take longer to read than the page to come.
        return httpx.get(self.url + path, timeout=20, verify=False)  # noqa: S501 - loopback, plain HTTP

    def summary(self) -> dict[str, Any]:
        return self.get("/api/v1/summary").raise_for_status().json()

    def _is_ready(self) -> bool:
        try:
            return not self.alive or self.get("/readyz").status_code == 200
        except (httpx.HTTPError, OSError):
            return False

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)


@pytest.fixture
def desk_process(tmp_path: Path) -> Iterator[Callable[..., DeskProcess]]:
    """Return a function that makes a daemon for a broker's port; whatever still runs is killed after the test."""
    made: list[DeskProcess] = []

    def make_process(port: int, *, protocol: str = "5", **changes: Any) -> DeskProcess:
        directory = tmp_path / "desk"
        settings = tmp_path / "dashboard.yaml"
        settings.write_text(
            f"broker: {{port: {port}, protocol: '{protocol}'}}\ndirectory: {directory}\nport: 0\n"
        )
        made.append(DeskProcess(settings, directory, **changes))
        return made[-1]

    yield make_process
    for one in made:
        if one.alive:
            one.kill()


# The record's databases


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


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[PostgresServer]:
    """One server for the whole run; its databases are made by each test."""
    yield from _run_postgres()


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server of the test's own, that it may end."""
    yield from _run_postgres()


def _run_postgres() -> Iterator[PostgresServer]:
    import socket  # noqa: PLC0415

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


_DATABASES = itertools.count(1)


@dataclass
class Store:
    """A database that holds no record yet, and a folder."""

    engine: str
    directory: Path
    url: str
    server: PostgresServer | None = None

    def record(self, *, directory: Path | None = None) -> Record:
        password = self.server.PASSWORD if self.server else None
        return Record(self.url, directory or self.directory, password=lambda: password)

    def settings(self) -> dict[str, Any]:
        """What a dashboard must be told beside its folder."""
        if self.server is None:
            return {}
        secret = self.directory.parent / "database.password"
        secret.write_text(self.server.PASSWORD + "\n")
        return {"database_url": self.url, "database_password_file": secret}

    def execute(self, statement: str) -> list[Any]:
        if self.server is not None:
            return self.server.execute(statement, database=self.url.rpartition("/")[2])
        engine = sa.create_engine(self.url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            answer = connection.exec_driver_sql(statement)
            return list(answer.all()) if answer.returns_rows else []


def sqlite_store(directory: Path) -> Store:
    directory.mkdir(parents=True, exist_ok=True)
    return Store("sqlite", directory, f"sqlite:///{directory / 'record.sqlite'}")


def postgres_store(server: PostgresServer, directory: Path) -> Store:
    directory.mkdir(parents=True, exist_ok=True)
    name = f"record_{next(_DATABASES)}"
    server.execute(f"create database {name}")
    return Store("postgresql", directory, server.url(name), server)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty database of each kind in turn."""
    if request.param == "sqlite":
        return sqlite_store(tmp_path / "desk")
    return postgres_store(request.getfixturevalue("shared_postgres"), tmp_path / "desk")


@pytest.fixture
def both_stores(shared_postgres: PostgresServer, tmp_path: Path) -> tuple[Store, Store]:
    """An empty database of each kind, to compare them."""
    return sqlite_store(tmp_path / "sqlite"), postgres_store(shared_postgres, tmp_path / "postgresql")


@pytest.fixture
def own_postgres_store(own_postgres: PostgresServer, tmp_path: Path) -> Store:
    return postgres_store(own_postgres, tmp_path / "desk")
