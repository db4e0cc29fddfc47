"""Fixtures of the dashboard's tests; what they give is in `desk/`."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker_config.embedded import EmbeddedBroker
from tests.clinician_dashboard.desk.far import connect
from tests.clinician_dashboard.desk.maker import Maker
from tests.clinician_dashboard.desk.postgres import PostgresServer, run_postgres
from tests.clinician_dashboard.desk.process import DeskProcess
from tests.clinician_dashboard.desk.running import run_desk
from tests.clinician_dashboard.desk.stores import Store, postgres_store, sqlite_store
from tests.clinician_dashboard.desk.waiting import eventually


@pytest.fixture
def make() -> Maker:
    return Maker()


@pytest.fixture
def another() -> Callable[..., Maker]:
    return Maker


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., Any]:
    return eventually


@pytest.fixture
def far_side() -> Callable[..., Any]:
    return connect


@pytest.fixture
def desk() -> Callable[..., Any]:
    return run_desk


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


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[PostgresServer]:
    """One server for the whole run; its databases are made by each test."""
    yield from run_postgres()


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server of the test's own, that it may end."""
    yield from run_postgres()


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


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One desk for all tests of a module, beside a broker of its own."""
    broker = EmbeddedBroker()
    broker.start()
    try:
        with run_desk(broker.port, tmp_path_factory.mktemp("desk"), protocol="3.1.1") as running:
            yield running
    finally:
        broker.stop()


@pytest.fixture
def forgiven(running: Any) -> None:
    """What earlier tests tried at the door is forgotten."""
    running.dashboard.access.throttle._counts.clear()


@pytest.fixture
def place(embedded_broker: Any, tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    """A desk and a far side at the embedded broker; a module that wants other brokers has its own."""
    with (
        run_desk(embedded_broker.port, tmp_path / "desk", protocol="3.1.1") as running,
        connect(embedded_broker.port, protocol="3.1.1") as far,
    ):
        yield running, far


@pytest.fixture
def send(place: tuple[Any, Any], make: Maker) -> Callable[..., list[str]]:
    """Return a function that sends answered frames of a case, and waits until they are recorded."""
    desk, far = place
    total = itertools.count()

    def send_case(leading: str = "CLL", *, code: str = "HL-1", number: int = 1, **changes: Any) -> list[str]:
        frames = [make.frame(code) for _ in range(number)]
        for frame in frames:
            far.send(frame, make.diagnosis(frame, leading, **changes))
        expected = [next(total) for _ in frames][-1] + 1
        eventually(lambda: desk.summary()["recorded"] == expected, what="the frames are recorded")
        return [frame.frame_id for frame in frames]

    return send_case
