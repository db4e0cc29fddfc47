import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
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
    def wait(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
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


class WorkerProcess:
    """A worker with the fake model as a process of its own, restarted when it ends, as a supervisor does."""

    def __init__(
        self, folder: Path, port: int, *, name: str, delay_s: float, settings: dict[str, Any]
    ) -> None:
        self.directory = folder / name
        self.log = folder / f"{name}.log"
        self._settings = folder / f"{name}.yaml"
        self._delay_s = delay_s
        self._child: subprocess.Popen[bytes] | None = None
        self._supervised = threading.Event()
        self._thread: threading.Thread | None = None
        self.codes: list[int] = []
        values = {"broker": {"port": port}, "worker": name, "directory": str(self.directory)} | settings
        self._settings.write_text(yaml.safe_dump(values))

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, str(_FAKES), str(self._settings), str(self._delay_s)],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            )

    def supervise(self) -> None:
        """Restart it whenever it ends; `codes` collects how it did."""

        def restart() -> None:
            while not self._supervised.wait(0.02):
                if self._child.poll() is not None:
                    self.codes.append(self._child.returncode)
                    self.start()

        self._thread = threading.Thread(target=restart)
        self._thread.start()

    def send_signal(self, number: int) -> None:
        self._child.send_signal(number)

    def wait(self, timeout_s: float = 30.0) -> int:
        return self._child.wait(timeout_s)

    def status(self) -> dict[str, Any]:
        port = json.loads((self.directory / "worker.port.json").read_text())["monitor"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5) as answer:
            return json.load(answer)

    def said(self) -> str:
        return self.log.read_text()

    def end(self) -> None:
        self._supervised.set()
        if self._thread is not None:
            self._thread.join(10)
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait(10)


@pytest.fixture
def worker_process(tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Start workers with the fake model as processes of their own; what is left of them is killed afterwards."""
    started: list[WorkerProcess] = []

    def start(port: int, *, name: str = "p1", delay_s: float = 0.0, **settings: Any) -> WorkerProcess:
        process = WorkerProcess(tmp_path, port, name=name, delay_s=delay_s, settings=settings)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.end()
