import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from broker_config.settings import BrokerSettings
from cloud_worker.settings import Settings
from cloud_worker.worker import Worker

_FAKES = Path(__file__).with_name("cloud_worker_fakes.py")


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cloud_worker_fakes", _FAKES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


fakes_module = _load()


@pytest.fixture
def fakes() -> ModuleType:
    return fakes_module


@pytest.fixture
def until() -> Callable[..., None]:
    def wait(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true in time"
            time.sleep(0.01)

    return wait


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start workers in this process; returns each with its fake model. All are stopped afterwards."""
    started: list[Any] = []

    def start(
        port: int,
        *,
        protocol: str = "5",
        name: str = "w1",
        connected: bool = True,
        end: Any = None,
        **settings: Any,
    ) -> Any:
        model = fakes_module.FakeModel()
        worker = Worker(
            Settings(
                broker=BrokerSettings(port=port, protocol=protocol, reconnect_max_s=0.3),
                worker=name,
                directory=tmp_path / name,
                **({"drain_s": 5.0} | settings),
            ),
            model=(model, fakes_module.IDENTITY),
            **({"end_process": end} if end else {}),
        )
        running = SimpleNamespace(worker=worker, model=model, stopped=False)
        started.append(running)
        worker.start()
        if connected:
            assert worker._session is not None
            assert worker._session.wait_connected(10), worker._session.last_error
        return running

    yield start
    for running in started:
        running.model.gate.set()
        if not running.stopped:
            running.worker.stop()


@pytest.fixture
def worker_process(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start workers with the fake model as processes of their own; what is left of them is killed afterwards."""
    children: list[subprocess.Popen[str]] = []

    def start(port: int, *, name: str = "p1", delay_s: float = 0.0, **settings: Any) -> Any:
        path = tmp_path / f"{name}.yaml"
        values = {"broker": {"port": port}, "worker": name, "directory": str(tmp_path / name)} | settings
        path.write_text(yaml.safe_dump(values))
        log = (tmp_path / f"{name}.log").open("w")
        child = subprocess.Popen(
            [sys.executable, str(_FAKES), str(path), str(delay_s)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        log.close()
        children.append(child)
        return child

    yield start
    for child in children:
        if child.poll() is None:
            child.kill()
        child.communicate(timeout=10)
