"""How much of its engine's rate a worker delivers: three ways to the same answers, in alternating rounds."""

import hashlib
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import cv2

from broker_config.delivery import Publication, publication
from broker_config.messages import Frame, new_frame_id, now
from broker_config.mosquitto import MosquittoProcess
from broker_config.session import IncomingMessage, Session, Subscription
from broker_config.settings import BrokerSettings
from broker_config.topics import Topics
from hemolink.child import Child
from hemolink.console import Console
from hemolink.errors import FrontDoorError
from model_zoo.catalogue import find_package
from model_zoo.image import decode_image
from model_zoo.predictor import Predictor
from smear_simulator import Microscope, population

WAYS = ("engine", "plain", "worker")
BATCH = 8
_IMAGES = 24
_OUTSTANDING = 64
_WARM_UP = 64
_SILENCE_S = 60.0
_JPEG_QUALITY = 90


@dataclass
class Way:
    """One way to the answers.

    Attributes:
        rates: Images per second, by round.
        cpu_ms: Processor time an image of the process that answers, by round, in milliseconds.
    """

    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Median images per second."""
        return statistics.median(self.rates)

    def as_json(self, engine: float) -> dict[str, Any]:
        """Return the figures, beside the engine's median rate."""
        return {
            "images_per_s": round(self.rate, 1),
            "lowest": round(min(self.rates), 1),
            "highest": round(max(self.rates), 1),
            "share_of_engine": round(self.rate / engine, 3),
            "cpu_ms": round(statistics.median(self.cpu_ms), 2),
        }


def images(seed: int) -> list[bytes]:
    """Return JPEG images of SIMULATED smears, 640 x 480 pixels."""
    encoded = []
    for patient in population(_IMAGES, seed=seed):
        picture = Microscope(patient).capture().image
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        encoded.append(data.tobytes())
    return encoded


class Source:
    """Publishes frames and hears the answers: an edge and a clinician in one client.

    Args:
        port: The broker's.
        root: First level of every topic.
        pictures: The images, used again and again, each time as a frame of its own.
    """

    def __init__(self, port: int, *, root: str, pictures: Sequence[bytes]) -> None:
        self._topics = Topics(root)
        self._pictures = pictures
        self._answered = 0
        self._changed = threading.Condition()
        self._session = Session(
            BrokerSettings(port=port, root=root),
            client_id=f"{root}-source",
            subscriptions=(Subscription(self._topics.all_of("diagnosis")),),
            on_message=self._hear,
            max_inflight=20,
        )

    def __enter__(self) -> Self:
        self._session.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self._session.stop()

    def _hear(self, _message: IncomingMessage) -> None:
        with self._changed:
            self._answered += 1
            self._changed.notify_all()

    def frames(self, count: int) -> list[Publication]:
        """Return frames ready to publish."""
        return [self._frame(self._pictures[number % len(self._pictures)]) for number in range(count)]

    def _frame(self, image: bytes) -> Publication:
        frame = Frame(
            frame_id=new_frame_id(),
            case="BENCH",
            site="bench",
            device="scope-1",
            captured_at=now(),
            encoding="jpeg",
            width=640,
            height=480,
            simulated=True,
            image_sha256=hashlib.sha256(image).hexdigest(),
            image=image,
        )
        return publication(self._topics.frame("bench", "scope-1", "routine"), frame)

    def run(self, frames: Sequence[Publication]) -> float:
        """Publish all and wait for as many answers; returns the seconds from the first publish to the last answer.

        Raises:
            FrontDoorError: If answers stay away.
        """
        with self._changed:
            start = self._answered
        began = time.monotonic()
        for number, frame in enumerate(frames):
            self._wait(start + number - _OUTSTANDING)
            self._session.publish_soon(frame)
        self._wait(start + len(frames))
        return time.monotonic() - began

    def _wait(self, answers: int) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._answered >= answers, _SILENCE_S):
                raise FrontDoorError(
                    f"only {self._answered} of {answers} answers came, and then none for {_SILENCE_S:.0f} s: look at the "
                    "logs of broker and worker"
                )


def cpu_s(pid: int) -> float:
    """Return the processor seconds that a process has used; none where that cannot be read counts as 0."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


class Rates:
    """The measurement.

    Args:
        model: Name or folder of a model package.
        directory: Where settings and logs go.
        console: For people.
        seed: Of the simulated patients.
    """

    def __init__(self, *, model: str, directory: Path, console: Console, seed: int) -> None:
        self._model = model
        self._directory = directory
        self._console = console
        self._seed = seed
        self.ways = {name: Way() for name in WAYS}
        self.engine_name = ""

    def run(self, *, frames: int, rounds: int) -> None:
        """Measure ``rounds`` rounds of ``frames`` frames each way.

        Raises:
            FrontDoorError: If a process does not start or answers stay away.
            BrokerFailed: If Mosquitto is missing.
        """
        self._console.say("Rendering SIMULATED smears, starting Mosquitto, the plain loop and a worker")
        pictures = images(self._seed)
        with ExitStack() as stack:
            predictor = Predictor(find_package(self._model, ()), max_batch_size=BATCH)
            predictor.start()
            stack.callback(predictor.stop)
            self.engine_name = predictor.engine_name
            inputs = [predictor.prepare(decode_image(one)) for one in pictures]
            broker = stack.enter_context(MosquittoProcess(self._directory / "mosquitto"))
            plain_pid = stack.enter_context(self._plain(broker.port))
            worker_pid = stack.enter_context(self._worker(broker.port))
            sources = {
                name: stack.enter_context(Source(broker.port, root=f"bench-{name}", pictures=pictures))
                for name in ("plain", "worker")
            }
            measures: dict[str, Callable[[], tuple[float, float]]] = {
                "engine": lambda: self._engine(predictor, inputs, frames),
                "plain": lambda: self._over_mqtt(sources["plain"], plain_pid, frames),
                "worker": lambda: self._over_mqtt(sources["worker"], worker_pid, frames),
            }
            for source in sources.values():
                source.run(source.frames(min(frames, _WARM_UP)))
            for number in range(rounds):
                for name in WAYS[number % 3 :] + WAYS[: number % 3]:  # each goes first in its turn
                    self._console.live(f"round {number + 1} of {rounds}: {name}")
                    rate, cpu_ms = measures[name]()
                    self.ways[name].rates.append(rate)
                    self.ways[name].cpu_ms.append(cpu_ms)

    def _engine(self, predictor: Predictor, inputs: Sequence[Any], frames: int) -> tuple[float, float]:
        batches = [
            [inputs[number % len(inputs)] for number in range(first, min(first + BATCH, frames))]
            for first in range(0, frames, BATCH)
        ]
        began, used = time.monotonic(), time.process_time()
        for batch in batches:
            predictor.infer(batch)
        return frames / (time.monotonic() - began), (time.process_time() - used) / frames * 1e3

    def _over_mqtt(self, source: Source, pid: int, frames: int) -> tuple[float, float]:
        ready, used = source.frames(frames), cpu_s(pid)
        took = source.run(ready)
        return frames / took, (cpu_s(pid) - used) / frames * 1e3

    @contextmanager
    def _plain(self, port: int) -> Iterator[int]:
        command = [sys.executable, "-m", "hemolink.leash", str(os.getpid()), "hemolink.bench.worker_plain"]
        with (self._directory / "plain.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [*command, str(port), "bench-plain", self._model],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        try:
            assert process.stdout is not None  # noqa: S101 - asked for above
            if process.stdout.readline().strip() != b"ready":
                raise FrontDoorError(f"the plain loop did not start: look at {log.name}")
            yield process.pid
        finally:
            process.kill()
            process.communicate()

    @contextmanager
    def _worker(self, port: int) -> Iterator[int]:
        child = Child(
            "worker",
            module="cloud_worker",
            settings={
                "directory": str(self._directory / "worker"),
                "broker": {"port": port, "root": "bench-worker"},
                "model": self._model,
                "pool": "bench",
                "max_batch_size": BATCH,
            },
            directory=self._directory,
        )
        child.start()
        try:
            child.wait_ready(timeout_s=120, stopping=lambda: False)
            assert child.process is not None  # noqa: S101 - started above
            yield child.process.pid
        finally:
            child.stop(timeout_s=30)
