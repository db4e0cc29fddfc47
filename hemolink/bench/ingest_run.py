"""Drives a dashboard as fast as it answers: edges and workers in one client, the record in a process of its own."""

import hashlib
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker_config.codec import decode
from broker_config.delivery import Publication, publication
from broker_config.messages import (
    CLASSES,
    Diagnosis,
    Frame,
    ModelIdentity,
    Quality,
    Receipt,
    Timings,
    new_frame_id,
    now,
)
from broker_config.session import IncomingMessage, Session, Subscription
from broker_config.settings import BrokerSettings
from broker_config.topics import Topics
from hemolink.bench.process_cost import ProcessCost
from hemolink.child import Child
from hemolink.errors import FrontDoorError

ROUND = 1000
WINDOW = 200
_SILENCE_S = 60.0
_WARM_UP = 0.2


@dataclass(frozen=True)
class Plan:
    """What is sent: numbers of frames, of devices, of frames of a case; bytes of an image; the seed."""

    frames: int
    image_bytes: int
    per_case: int
    devices: int
    seed: int


@dataclass
class Figures:
    """What one broker's run showed.

    Attributes:
        rates: Diagnoses recorded and receipted a second, by round of 1,000.
        cpu_ms: The daemon's processor time a frame, by round.
        rss: The daemon's memory in MB after each round.
        seconds: Of sending, without making the messages.
        frames: Recorded.
    """

    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)
    seconds: float = 0.0
    frames: int = 0

    @property
    def rate(self) -> float:
        """Of the median round."""
        return statistics.median(self.rates)

    @property
    def growth_mb(self) -> float:
        """How much the daemon's memory rose after the first fifth of the rounds, to the highest later point."""
        settled = max(1, round(len(self.rss) * _WARM_UP))
        return max(0.0, max(self.rss[settled - 1 :]) - max(self.rss[:settled]))

    def line(self) -> str:
        """Return the figures in one line."""
        return (
            f"{self.frames} diagnoses with images: {self.rate:.0f}/s in the median round ({min(self.rates):.0f} to "
            f"{max(self.rates):.0f}), {statistics.median(self.cpu_ms):.2f} ms of processor each; memory {self.rss[0]:.0f} MB "
            f"after the first round, {self.rss[-1]:.0f} MB at the end, +{self.growth_mb:.0f} MB"
        )

    def as_json(self) -> dict[str, Any]:
        """Return the figures as plain fields."""
        return {
            "frames": self.frames,
            "per_s": round(self.rate, 1),
            "lowest_per_s": round(min(self.rates), 1),
            "highest_per_s": round(max(self.rates), 1),
            "cpu_ms": round(statistics.median(self.cpu_ms), 3),
            "rss_mb": [round(one, 1) for one in self.rss],
            "growth_mb": round(self.growth_mb, 1),
        }


class Traffic:
    """Makes frames and their diagnoses, ready to publish.

    Args:
        plan: What to make.
        topics: The topic names in use.
    """

    def __init__(self, plan: Plan, topics: Topics) -> None:
        self._plan = plan
        self._topics = topics
        self._random = random.Random(plan.seed)
        self._image = self._random.randbytes(plan.image_bytes)
        self._made = 0

    def pairs(self, count: int) -> list[tuple[Publication, Publication]]:
        """Return the next ``count`` frames, each with its diagnosis; every image is another one."""
        return [self._pair() for _ in range(count)]

    def _pair(self) -> tuple[Publication, Publication]:
        number = self._made
        self._made += 1
        case, device = (
            number // self._plan.per_case,
            f"scope-{number // self._plan.per_case % self._plan.devices}",
        )
        image = self._random.randbytes(16) + self._image[16:]
        quality = Quality(focus=40.0, focus_threshold=10.0, brightness=0.7, foreground=0.3)
        frame = Frame(
            frame_id=new_frame_id(),
            case=f"HL-{case:06d}",
            site="bench",
            device=device,
            sequence=number,
            captured_at=now(),
            encoding="jpeg",
            width=1280,
            height=960,
            pixel_size_um=0.25,
            quality=quality,
            simulated=True,
            image=image,
            image_sha256=hashlib.sha256(image).hexdigest(),
        )
        leading = CLASSES[case % len(CLASSES)]
        diagnosis = Diagnosis(
            frame_id=frame.frame_id,
            case=frame.case,
            site=frame.site,
            device=device,
            captured_at=frame.captured_at,
            diagnosed_at=now(),
            worker="worker-bench",
            model=ModelIdentity(
                name="bench",
                version="1.0.0",
                weights_sha256=hashlib.sha256(b"bench").hexdigest(),
                architecture="resnet34",
                engine="openvino-bf16",
                training_data="none: a bench",
                simulated=True,
            ),
            probabilities={name: 0.92 if name == leading else 0.02 for name in CLASSES},
            prediction=leading,
            prediction_set=(leading,),
            decision="report",
            quality=quality,
            ood_score=12.0,
            ood_threshold=20.0,
            activation=[[(x + y) / 12 for x in range(7)] for y in range(7)],
            timings=Timings(queue_ms=4, decode_ms=2, inference_ms=6),
            image_sha256=frame.image_sha256,
            frame_simulated=True,
        )
        return (
            publication(self._topics.frame("bench", device, "routine"), frame),
            publication(self._topics.diagnosis("bench", device), diagnosis),
        )


class IngestRun:
    """One measurement over one broker.

    Args:
        plan: What is sent.
        broker: ``mosquitto`` or ``embedded``.
        directory: Where broker, record and logs live.
        tell: Told how far it is.
    """

    def __init__(self, plan: Plan, *, broker: str, directory: Path, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._broker = broker
        self._directory = directory
        self._tell = tell
        self._heard = 0
        self._changed = threading.Condition()

    def run(self) -> Figures:
        """Start everything, send, and stop everything.

        Raises:
            FrontDoorError: If the daemon does not start, or receipts stay away.
            BrokerFailed: If the broker cannot be had.
        """
        protocol = "5" if self._broker == "mosquitto" else "3.1.1"
        with self._start_broker() as broker, self._start_desk(broker.port, protocol) as desk:
            topics = Topics()
            session = Session(
                BrokerSettings(port=broker.port, protocol=protocol),
                client_id="hemolink-bench-ingest",
                subscriptions=(Subscription(topics.all_of("receipt")),),
                on_message=self._hear,
                max_inflight=100,
            )
            session.connect()
            try:
                return self._rounds(session, Traffic(self._plan, topics), desk)
            finally:
                session.stop()

    def _rounds(self, session: Session, traffic: Traffic, desk: Child) -> Figures:
        figures = Figures()
        assert desk.process is not None  # noqa: S101 - started
        cost = ProcessCost(desk.process.pid)
        while figures.frames < self._plan.frames:
            pairs = traffic.pairs(min(ROUND, self._plan.frames - figures.frames))
            used, began = cost.cpu_s, time.monotonic()
            self._send(session, pairs)
            took = time.monotonic() - began
            desk.check()
            figures.rates.append(len(pairs) / took)
            figures.cpu_ms.append((cost.cpu_s - used) / len(pairs) * 1e3)
            figures.rss.append(cost.resident_mb)
            figures.seconds += took
            figures.frames += len(pairs)
            self._tell(
                f"{figures.frames} of {self._plan.frames}: {figures.rates[-1]:.0f}/s, {figures.rss[-1]:.0f} MB"
            )
        return figures

    def _send(self, session: Session, pairs: list[tuple[Publication, Publication]]) -> None:
        with self._changed:
            start = self._heard
        for number, (frame, diagnosis) in enumerate(pairs):
            self._wait(start + number - WINDOW)
            session.publish_soon(frame)
            session.publish_soon(diagnosis)
        self._wait(start + len(pairs))

    def _wait(self, receipts: int) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._heard >= receipts, _SILENCE_S):
                raise FrontDoorError(
                    f"only {self._heard} of {receipts} receipts came, and then none for {_SILENCE_S:.0f} s"
                )

    def _hear(self, message: IncomingMessage) -> None:
        if decode(message.payload, Receipt).status != "recorded":
            return
        with self._changed:
            self._heard += 1
            self._changed.notify_all()

    def _start_broker(self) -> AbstractContextManager[Any]:
        if self._broker == "mosquitto":
            from broker_config.mosquitto import MosquittoProcess  # noqa: PLC0415 - one of the two

            return MosquittoProcess(self._directory / "mosquitto")
        from broker_config.embedded import EmbeddedBroker  # noqa: PLC0415

        return EmbeddedBroker()

    @contextmanager
    def _start_desk(self, port: int, protocol: str) -> Iterator[Child]:
        child = Child(
            "dashboard",
            module="clinician_dashboard",
            settings={
                "directory": str(self._directory / "desk"),
                "broker": {"port": port, "protocol": protocol},
                "port": 0,
            },
            directory=self._directory,
        )
        child.start()
        try:
            child.wait_ready(timeout_s=60, stopping=lambda: False)
            yield child
        finally:
            child.stop(timeout_s=30)
