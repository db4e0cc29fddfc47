"""How long frames take to their diagnosis when a worker dies and comes back, or the broker does.

With a session that the broker forgets at once, and with one that it keeps: Mosquitto goes on routing frames to the kept
session of an absent shared subscriber. Real edge, real Mosquitto, three real worker daemons around a stand-in model.
"""

import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from broker_config.codec import decode
from broker_config.messages import Diagnosis, now
from broker_config.mosquitto import MosquittoProcess
from broker_config.session import IncomingMessage, Session, Subscription
from broker_config.settings import BrokerSettings
from broker_config.topics import Topics
from hemolink.bench.worker_rates import images
from hemolink.child import Child
from hemolink.console import Console
from hemolink.errors import FrontDoorError, Unanswered
from model_zoo.image import decode_image

WORKERS = 3
_STAND_IN = "hemolink.bench.faults.stand_in"
_INTERVAL_S = 0.05
_BEFORE_S = 4.0
_AFTER_S = 15.0
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Scene:
    """What happens once.

    Attributes:
        name: What people call it.
        absent_s: For how long the worker (or the broker) is away.
        broker: Whether it is the broker and not a worker.
    """

    name: str
    absent_s: float
    broker: bool = False


SCENES = (
    Scene("worker_2s", 2.0),
    Scene("worker_30s", 30.0),
    Scene("broker_2s", 2.0, broker=True),
)


class Stethoscope:
    """Hears every diagnosis and notes how long its frame took.

    Args:
        port: The broker's.
    """

    def __init__(self, port: int) -> None:
        self._lock = threading.Lock()
        self._latency: dict[str, float] = {}
        self._copies = 0
        self._session = Session(
            BrokerSettings(port=port, reconnect_max_s=0.5),
            client_id="stethoscope",
            subscriptions=(Subscription(Topics().all_of("diagnosis")),),
            on_message=self._hear,
        )

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen for as long as the block lasts."""
        self._session.connect()
        try:
            yield
        finally:
            self._session.stop()

    def _hear(self, message: IncomingMessage) -> None:
        diagnosis = decode(message.payload, Diagnosis)
        took = (now() - diagnosis.captured_at).total_seconds()
        with self._lock:
            if diagnosis.frame_id in self._latency:
                self._copies += 1
            else:
                self._latency[diagnosis.frame_id] = took

    def figures(self) -> dict[str, Any]:
        """Return the latencies in seconds, and how many frames were diagnosed twice."""
        with self._lock:
            took = sorted(self._latency.values())
            copies = self._copies
        if len(took) < 2:  # noqa: PLR2004 - percentiles need two
            raise FrontDoorError("fewer than two diagnoses were heard: look at the workers' logs")
        cuts = statistics.quantiles(took, n=100, method="inclusive")
        return {
            "frames": len(took),
            "p50_s": round(cuts[49], 3),
            "p90_s": round(cuts[89], 3),
            "p99_s": round(cuts[98], 3),
            "max_s": round(took[-1], 3),
            "over_5_s": sum(one > 5 for one in took),  # noqa: PLR2004
            "diagnosed_twice": copies,
        }


class Restarts:
    """The measurement.

    Args:
        directory: Where settings, logs and frames go.
        console: For people.
        seed: Of the simulated patients.
    """

    def __init__(self, *, directory: Path, console: Console, seed: int) -> None:
        self._directory = directory
        self._console = console
        self._seed = seed

    def run(self, kept_s: Sequence[int], scenes: Sequence[Scene] = SCENES) -> dict[str, dict[str, Any]]:
        """Return the figures by scene and by how long the session is kept.

        Raises:
            FrontDoorError: If a daemon does not start, or frames stay undiagnosed.
            BrokerFailed: If Mosquitto is missing.
        """
        found: dict[str, dict[str, Any]] = {}
        for scene in scenes:
            for kept in kept_s:
                key = f"{scene.name}_kept_{kept}s" if kept else f"{scene.name}_clean"
                self._console.live(f"{key}: {_BEFORE_S + scene.absent_s + _AFTER_S:.0f} s and what is left")
                found[key] = self._play(scene, kept=kept, folder=self._directory / key)
                self._console.say(f"  {key}: {found[key]}")
        return found

    def _play(self, scene: Scene, *, kept: int, folder: Path) -> dict[str, Any]:
        count = int((_BEFORE_S + scene.absent_s + _AFTER_S) / _INTERVAL_S)
        self._take_pictures(folder / "pictures", count)
        with ExitStack() as stack:
            broker = stack.enter_context(MosquittoProcess(folder / "mosquitto"))
            workers = [self._worker(folder, broker.port, number, kept) for number in range(WORKERS)]
            edge = self._edge(folder, broker.port, count)
            for child in (*workers, edge):
                stack.callback(child.stop, timeout_s=10)
            for child in workers:
                child.start()
            for child in workers:
                child.wait_ready(timeout_s=120, stopping=lambda: False)
            ear = Stethoscope(broker.port)
            stack.enter_context(ear.listening())
            edge.start()
            edge.wait_ready(timeout_s=60, stopping=lambda: False)
            time.sleep(_BEFORE_S)
            self._break(scene, broker, workers[0])
            self._wait_through(edge, count)
            return ear.figures()

    def _break(self, scene: Scene, broker: MosquittoProcess, worker: Child) -> None:
        if scene.broker:
            broker.stop()
            time.sleep(scene.absent_s)
            broker.start()
            return
        assert worker.process is not None  # noqa: S101 - started
        worker.process.kill()
        worker.process.wait()
        time.sleep(scene.absent_s)
        worker.start()

    def _wait_through(self, edge: Child, count: int) -> None:
        deadline = time.monotonic() + count * _INTERVAL_S * 4 + _PATIENCE_S
        while time.monotonic() < deadline:
            try:
                status = edge.get_json("/status")
            except Unanswered:
                status = {}
            if status.get("finished") and not status.get("spooled"):
                return
            edge.check()
            time.sleep(0.2)
        raise FrontDoorError(f"frames stayed undiagnosed. {edge.last_words()}")

    def _take_pictures(self, folder: Path, count: int) -> None:
        folder.mkdir(parents=True)
        pictures = [decode_image(one) for one in images(self._seed)]
        for number in range(count):
            picture = pictures[number % len(pictures)].copy()
            picture[:2, :16] = [number % 256, number // 256, 0]  # no two alike
            cv2.imwrite(str(folder / f"{number:05}.jpg"), picture)

    def _worker(self, folder: Path, port: int, number: int, kept: int) -> Child:
        settings = {
            "worker": f"worker-{number}",
            "pool": "bench",
            "directory": str(folder / f"worker-{number}"),
            "broker": {"port": port, "reconnect_max_s": 2},
            "session_kept_s": kept,
            "max_wait_ms": 300,  # so that there is always something in hand
            "drain_s": 3,
        }
        return Child("worker", module=_STAND_IN, settings=settings, directory=folder, name=f"worker-{number}")

    def _edge(self, folder: Path, port: int, count: int) -> Child:
        settings = {
            "site": "bench",
            "device": "scope-1",
            "directory": str(folder / "edge"),
            "broker": {"port": port, "reconnect_max_s": 2},
            "camera": {"kind": "folder", "path": str(folder / "pictures"), "case": "BENCH"},
            "delivery": {"settle_on": "diagnosed"},
            "interval_s": _INTERVAL_S,
            "frames": count,
            "drain_s": 1,
        }
        return Child("edge", module="edge_agent", settings=settings, directory=folder)
