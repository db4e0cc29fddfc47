"""Fixtures that every package's tests share.

A part that is missing (Mosquitto, Chromium) is a skip on a laptop, with the remedy in the reason, and a failure where
``CI`` is set, so that a green run never hides an untested path.
"""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM_CANDIDATES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the long forms of tests (marker: slow)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="long form; run scripts/test --slow")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)


def missing(part: str, *, remedy: str) -> None:
    """Skip the running test on a laptop, fail it in CI, because a part of the real system is not installed."""
    message = f"{part} is not installed: {remedy}"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def _port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Return a function that names a loopback port which nothing listens on at this moment."""
    given: set[int] = set()

    def choose() -> int:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port: int = probe.getsockname()[1]
            if port not in given and _port_is_free(port):
                given.add(port)
                return port

    return choose


@pytest.fixture
def mosquitto_broker(tmp_path: Path) -> Iterator[Any]:
    """A real Mosquitto on loopback, stopped after the test; ``.port`` is its MQTT port."""
    if not (shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists()):
        missing("Mosquitto", remedy="apt-get install mosquitto, or let scripts/test do it as root")
    from broker_config.mosquitto import MosquittoProcess  # noqa: PLC0415 - only tests that ask for it pay for it

    broker = MosquittoProcess(tmp_path / "mosquitto")
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


@pytest.fixture
def embedded_broker() -> Iterator[Any]:
    """The embedded broker (amqtt, MQTT 3.1.1) on loopback, stopped after the test; ``.port`` is its MQTT port."""
    from broker_config.embedded import EmbeddedBroker  # noqa: PLC0415 - only tests that ask for it pay for it

    broker = EmbeddedBroker()
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


@pytest.fixture(params=["mosquitto", "embedded"])
def any_broker(request: pytest.FixtureRequest) -> Any:
    """Each broker in turn; ``.port`` is its MQTT port. Speak MQTT 3.1.1 to it, which both know."""
    return request.getfixturevalue(f"{request.param}_broker")


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Launch the system's Chromium (pytest-playwright), since no browser is downloaded."""
    found = next((path for name in CHROMIUM_CANDIDATES if (path := shutil.which(name))), None)
    if found is None:
        missing("Chromium", remedy="apt-get install chromium, or let scripts/test do it as root")
    return {**browser_type_launch_args, "executable_path": found, "args": CHROMIUM_ARGUMENTS}
