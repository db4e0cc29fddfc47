"""Fixtures of the dashboard's tests; what they give is in `desk/`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

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
