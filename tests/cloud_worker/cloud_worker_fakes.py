"""A model that answers at once, breaks on order, and an edge and clinician in one client. Also run as a process."""

import hashlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np

from broker_config.codec import decode, encode
from broker_config.delivery import Publication, publication
from broker_config.device_messages import Command, CommandResponse
from broker_config.fleet_messages import WorkerState
from broker_config.messages import Diagnosis, Frame, ModelIdentity, Receipt, Rejection, new_frame_id, now
from broker_config.session import IncomingMessage, Session, Subscription
from broker_config.settings import BrokerSettings
from broker_config.topics import Topics
from model_zoo.predictor import Prediction

IDENTITY = ModelIdentity(
    name="fake",
    version="1",
    weights_sha256="0" * 64,
    engine="fake-fp32",
    training_data="none",
    simulated=True,
)
POISON = 13
"""A frame of this grey value breaks the model."""
NOT_A_NUMBER = 17
"""To a frame of this grey value the model answers with probabilities that are not numbers."""


ABORT, ABORT_DECODING, HANG, WRECK = 241, 242, 243, 244
"""A frame of one of these grey values ends the process natively, or while decoding; hangs it; wrecks the engine for good."""


class FakeModel:
    """Knows a frame by its grey value. It waits at ``gate``, and fails on everything when ``broken``."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.engine_name = "fake-fp32"
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[list[int]] = []
        self.broken = False
        self.delay_s = delay_s
        self.entered = threading.Event()

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def prepare(self, image: np.ndarray) -> np.ndarray:
        if image[0, 0, 0] == ABORT_DECODING:
            os.abort()
        return np.full((3, 8, 8), image[0, 0, 0], np.float32)

    def infer(self, batch: Sequence[np.ndarray]) -> list[Prediction]:
        values = [int(one[0, 0, 0]) for one in batch]
        self.batches.append(values)
        self.entered.set()
        self.gate.wait(60)
        time.sleep(self.delay_s)
        if ABORT in values:
            os.abort()
        if HANG in values:
            threading.Event().wait()
        self.broken = self.broken or WRECK in values
        if self.broken or POISON in values:
            raise RuntimeError("the model broke")
        return [self._answer(value) for value in values]

    def _answer(self, value: int) -> Prediction:
        first = float("nan") if value == NOT_A_NUMBER else 0.6
        return Prediction(
            probabilities=(first, 0.1, 0.1, 0.1, 0.1),
            prediction="healthy",
            prediction_set=("healthy",),
            decision="report",
            reasons=(),
            ood_score=1.0,
            ood_threshold=2.0,
            activation=tuple((0.5,) * 7 for _ in range(7)),
        )


def image_of(value: int, *, encoding: str = "png", width: int = 64, height: int = 48) -> bytes:
    """An image of one grey value."""
    done, data = cv2.imencode(f".{encoding}", np.full((height, width, 3), value, np.uint8))
    assert done
    return data.tobytes()


def make_frame(value: int = 100, **changes: Any) -> Frame:
    """A valid frame, but for the changes."""
    image = changes.pop("image", None)
    image = image_of(value) if image is None else image
    fields = {
        "frame_id": new_frame_id(),
        "case": "C-1",
        "site": "lab",
        "device": "scope-1",
        "captured_at": now(),
        "encoding": "png",
        "width": 64,
        "height": 48,
        "image": image,
        "image_sha256": hashlib.sha256(image).hexdigest(),
    }
    return Frame(**(fields | changes))


class FarEnd:
    """The edge that publishes frames and everyone who hears what becomes of them."""

    def __init__(self, port: int, *, protocol: str = "5") -> None:
        self.topics = Topics()
        self.diagnoses: list[Diagnosis] = []
        self.receipts: list[Receipt] = []
        self.rejections: list[Rejection] = []
        self.states: list[WorkerState] = []
        self._changed = threading.Condition()
        kinds = ("diagnosis", "receipt", "rejected")
        self.session = Session(
            BrokerSettings(port=port, protocol=protocol, reconnect_max_s=0.3),
            client_id="far-end",
            subscriptions=[
                *(Subscription(self.topics.all_of(kind)) for kind in kinds),
                Subscription(self.topics.all_worker_states()),
            ],
            on_message=self._take,
            max_inflight=15,
        )

    def __enter__(self) -> Self:
        self.session.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.session.stop()

    def _take(self, message: IncomingMessage) -> None:
        kind = self.topics.parse(message.topic).kind
        where, model = {
            "diagnosis": (self.diagnoses, Diagnosis),
            "receipt": (self.receipts, Receipt),
            "rejected": (self.rejections, Rejection),
            "worker-state": (self.states, WorkerState),
        }[kind]
        with self._changed:
            where.append(decode(message.payload, model))
            self._changed.notify_all()

    def send(self, frame: Frame) -> Frame:
        """Publish a frame on its own topic, as an edge does."""
        topic = self.topics.frame(frame.site, frame.device, frame.priority)
        self.session.publish(publication(topic, frame))
        return frame

    def send_raw(
        self, payload: bytes, *, topic: str = "hemolink/v1/lab/scope-1/frame/routine", frame_id: str = ""
    ) -> None:
        """Publish any bytes on any topic."""
        self.session.publish(Publication(topic, payload, correlation_data=frame_id.encode() or None))

    def wait(self, condition: Callable[[], object], timeout_s: float = 30.0) -> None:
        """Wait for something to be heard."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout_s), self.heard()

    def heard(self) -> str:
        return (
            f"diagnoses {[one.frame_id[:6] for one in self.diagnoses]}, "
            f"receipts {[(one.frame_id[:6], one.status, one.reason) for one in self.receipts]}, "
            f"rejections {[(one.code, one.reason) for one in self.rejections]}"
        )

    def statuses(self, frame: Frame) -> list[str]:
        """Every receipt's status for one frame."""
        return [one.status for one in self.receipts if one.frame_id == frame.frame_id]


class ParkingEdge:
    """Obeys the order ``retry`` for frames that it has parked."""

    def __init__(self, port: int, far: FarEnd, *, parked: Sequence[Frame]) -> None:
        self._far = far
        self._parked = {one.frame_id: one for one in parked}
        self._orders: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._obey)
        self._session = Session(
            BrokerSettings(port=port),
            client_id="parking-edge",
            subscriptions=[Subscription(far.topics.commands_to("lab", "scope-1"))],
            on_message=lambda message: self._orders.put(decode(message.payload, Command)),
        )

    def __enter__(self) -> Self:
        self._session.connect()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._orders.put(None)
        self._thread.join()
        self._session.stop()

    def _obey(self) -> None:
        while (order := self._orders.get()) is not None:
            absent = [one for one in order.frame_ids if one not in self._parked]
            answer = CommandResponse(
                request_id=order.request_id,
                verb="retry",
                ok=True,
                message=f"not parked here: {', '.join(absent)}",
                at=now(),
            )
            topic = self._far.topics.response("lab", "scope-1", "retry")
            self._session.publish(publication(topic, answer))
            for one in order.frame_ids:
                if one in self._parked:
                    self._far.send(self._parked[one])


def unknown_version(frame: Frame) -> bytes:
    """A frame's payload of a version that this release does not know."""
    return encode(frame.model_copy(update={"schema_version": 99}))


def deliver(far: FarEnd, frames: Sequence[Frame], *, timeout_s: float = 60.0, resend_s: float = 2.0) -> None:
    """Send frames as an edge does: again when asked, again after a while, until each is diagnosed or rejected."""
    sent: dict[str, tuple[float, int]] = {}
    deadline = time.monotonic() + timeout_s
    while waiting := [one for one in frames if not {"diagnosed", "rejected"} & set(far.statuses(one))]:
        assert time.monotonic() < deadline, far.heard()
        for frame in waiting:
            asked = far.statuses(frame).count("retry")
            at, known = sent.get(frame.frame_id, (0.0, 0))
            if time.monotonic() - at > resend_s or asked > known:
                sent[frame.frame_id] = (time.monotonic(), asked)
                far.send(frame)
        time.sleep(0.02)


def main() -> None:
    """Run a worker with the fake model: ``cloud_worker_fakes.py SETTINGS DELAY_S``."""
    from cloud_worker.daemon import serve  # noqa: PLC0415

    sys.exit(serve(Path(sys.argv[1]), model=lambda _: (FakeModel(float(sys.argv[2])), IDENTITY)))


if __name__ == "__main__":
    main()
