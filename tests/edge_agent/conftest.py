"""A far end that answers frames with receipts, an agent in this process, and pictures."""

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import pytest

from broker_config.codec import decode
from broker_config.delivery import publication
from broker_config.device_messages import CommandResponse, DeviceState
from broker_config.errors import SessionError
from broker_config.fleet_messages import WorkerState
from broker_config.messages import Frame, Receipt, Rejection, now
from broker_config.session import IncomingMessage, Session, Subscription
from broker_config.settings import BrokerSettings
from broker_config.topics import Topics
from edge_agent.agent import Agent
from edge_agent.settings import Settings

SITE, DEVICE = "lab", "scope-1"


def eventually(condition: Callable[[], Any], *, within_s: float = 30.0) -> Any:
    """Poll until the condition holds and return its value."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


class FarEnd:
    """Stands in for worker, record and operator: hears every frame and answers as told."""

    def __init__(self, broker: BrokerSettings, answers: tuple[str, ...] = ("diagnosed", "recorded")) -> None:
        self.answers = answers
        self.frames: dict[str, Frame] = {}
        self.order: list[str] = []
        self.heard: Counter[str] = Counter()
        self.heard_at: list[float] = []
        self.rejections: list[Rejection] = []
        self.states: list[DeviceState] = []
        self.responses: list[CommandResponse] = []
        self.topics = Topics(broker.root)
        self._inbox: queue.SimpleQueue[IncomingMessage | None] = queue.SimpleQueue()
        self.session = Session(
            broker,
            client_id="far-end",
            subscriptions=(
                Subscription(self.topics.all_frames()),
                Subscription(self.topics.state(SITE, DEVICE)),
                Subscription(self.topics.rejected(SITE, DEVICE)),
                Subscription(f"{self.topics.root}/v1/{SITE}/{DEVICE}/command/+/response"),
            ),
            on_message=self._inbox.put,
        )
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self.session.start()
        self._thread.start()
        assert self.session.wait_connected(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._inbox.put(None)
        self._thread.join(5)
        self.session.stop(2)

    def send_receipt(self, frame_id: str, status: str, reason: str = "") -> None:
        receipt = Receipt(frame_id=frame_id, status=status, reason=reason, by="far-end", at=now())
        self.session.publish(publication(self.topics.receipt(SITE, DEVICE), receipt))

    def tell_worker(self, presence: str, *, birth: int, worker: str = "w1") -> None:
        state = WorkerState(worker=worker, pool="p", presence=presence, birth=birth, at=now())
        self.session.publish(publication(self.topics.worker_state(worker), state))

    def _serve(self) -> None:
        while (message := self._inbox.get()) is not None:
            kind = self.topics.parse(message.topic).kind
            if kind == "state":
                self.states.append(decode(message.payload, DeviceState))
            elif kind == "response":
                self.responses.append(decode(message.payload, CommandResponse))
            elif kind == "rejected":
                self.rejections.append(decode(message.payload, Rejection))
            elif kind == "frame":
                frame = decode(message.payload, Frame)
                self.frames[frame.frame_id] = frame
                self.order.append(frame.frame_id)
                self.heard[frame.frame_id] += 1
                self.heard_at.append(message.received_at)
                for status in self.answers:
                    try:
                        self.send_receipt(frame.frame_id, status, "the test said so")
                    except SessionError:
                        break


@pytest.fixture
def picture() -> Callable[[int], np.ndarray]:
    """Makes pictures that pass the gate, one for each seed."""

    def make(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        image = np.full((240, 320, 3), (215, 205, 220), np.uint8)
        for _ in range(60):
            centre = (int(rng.integers(0, 320)), int(rng.integers(0, 240)))
            cv2.circle(image, centre, int(rng.integers(6, 14)), (150, 120, 190), -1, cv2.LINE_AA)
            cv2.circle(image, centre, 3, (90, 40, 110), -1, cv2.LINE_AA)
        noisy = image + rng.normal(0, 2, image.shape)
        return np.clip(noisy, 0, 255).astype(np.uint8)

    return make


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[[int], np.ndarray]) -> Callable[[int], Path]:
    """Makes a folder of so many good JPEG files."""

    def make(count: int) -> Path:
        path = tmp_path / "pictures"
        path.mkdir(exist_ok=True)
        for number in range(count):
            cv2.imwrite(str(path / f"{number:03}.jpg"), picture(number))
        return path

    return make


@pytest.fixture
def edge_settings(tmp_path: Path) -> Callable[..., Settings]:
    """Makes settings for an agent with quick timers."""

    def make(port: int, camera: dict[str, Any], *, protocol: str = "3.1.1", **more: Any) -> Settings:
        raw: dict[str, Any] = {
            "broker": {"port": port, "protocol": protocol, "reconnect_max_s": 0.5},
            "site": SITE,
            "device": DEVICE,
            "directory": str(tmp_path / "edge"),
            "camera": camera,
            "delivery": {"resend_after_s": 1.0, "resend_max_s": 1.0, "lease_s": 1.0},
            "spool": {"min_free_bytes": 0},
            "heartbeat_s": 0.5,
            "drain_s": 2.0,
        }
        for key, value in more.items():
            raw[key] = {**raw.get(key, {}), **value} if isinstance(value, dict) else value
        return Settings.model_validate(raw)

    return make


@pytest.fixture
def running() -> Callable[[Settings], Any]:
    """Runs an agent for the length of a with-block."""

    @contextmanager
    def run(settings: Settings) -> Iterator[Agent]:
        agent = Agent(settings)
        agent.start()
        try:
            yield agent
        finally:
            agent.stop()

    return run
