"""Makes messages of one device."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import cv2
import numpy as np

from broker_config.device_messages import DeviceState
from broker_config.messages import (
    CLASSES,
    Diagnosis,
    Frame,
    ModelIdentity,
    Quality,
    Rejection,
    Timings,
    new_frame_id,
)

WEIGHTS = hashlib.sha256(b"weights").hexdigest()


def jpeg(seed: int, *, width: int = 160, height: int = 120) -> bytes:
    """A small picture with a dark disc; each seed another."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(200, 240, (height, width, 3), dtype=np.uint8)
    cv2.circle(picture, (width // 2, height // 2), height // 4, (140, 60, 110), -1)
    ok, encoded = cv2.imencode(".jpg", picture)
    assert ok
    return encoded.tobytes()


class Maker:
    """Makes messages of one device."""

    def __init__(self, site: str = "ward", device: str = "scope-1") -> None:
        self.site = site
        self.device = device
        self.count = 0

    def frame(self, case: str = "HL-0001", **changes: Any) -> Frame:
        self.count += 1
        image = changes.pop("image", None) or jpeg(self.count)
        fields: dict[str, Any] = {
            "frame_id": new_frame_id(),
            "case": case,
            "site": self.site,
            "device": self.device,
            "sequence": self.count,
            "captured_at": datetime.now(UTC) - timedelta(seconds=1) + timedelta(milliseconds=self.count),
            "encoding": "jpeg",
            "width": 160,
            "height": 120,
            "pixel_size_um": 0.5,
            "quality": Quality(focus=40.0, focus_threshold=10.0, brightness=0.7, foreground=0.3),
            "image": image,
            "image_sha256": hashlib.sha256(image).hexdigest(),
        }
        return Frame(**(fields | changes))

    def diagnosis(
        self, frame: Frame, leading: str = "AML", *, top: float = 0.92, **changes: Any
    ) -> Diagnosis:
        rest = (1 - top) / 4
        grid = [[max(0.0, 1 - ((x - 3) ** 2 + (y - 3) ** 2) / 8) for x in range(7)] for y in range(7)]
        fields: dict[str, Any] = {
            "frame_id": frame.frame_id,
            "case": frame.case,
            "site": frame.site,
            "device": frame.device,
            "captured_at": frame.captured_at,
            "diagnosed_at": datetime.now(UTC),
            "worker": "worker-1",
            "model": ModelIdentity(
                name="resnet34-test",
                version="1.0.0",
                weights_sha256=WEIGHTS,
                architecture="resnet34",
                engine="openvino-bf16",
                training_data="test images",
            ),
            "probabilities": {name: top if name == leading else rest for name in CLASSES},
            "prediction": leading,
            "prediction_set": (leading,),
            "decision": "report",
            "quality": frame.quality,
            "ood_score": 12.0,
            "ood_threshold": 20.0,
            "activation": grid,
            "timings": Timings(queue_ms=4, decode_ms=2, inference_ms=6),
            "image_sha256": frame.image_sha256,
            "frame_simulated": frame.simulated,
        }
        return Diagnosis(**(fields | changes))

    def rejection(self, frame: Frame, **changes: Any) -> Rejection:
        fields: dict[str, Any] = {
            "frame_id": frame.frame_id,
            "case": frame.case,
            "site": frame.site,
            "device": frame.device,
            "code": "corrupt_image",
            "reason": "the image cannot be decoded",
            "payload_bytes": len(frame.image),
            "payload_sha256": hashlib.sha256(frame.image).hexdigest(),
            "by": "worker-1",
            "at": datetime.now(UTC),
        }
        return Rejection(**(fields | changes))

    def state(self, *, birth: int = 1, **changes: Any) -> DeviceState:
        fields: dict[str, Any] = {
            "site": self.site,
            "device": self.device,
            "presence": "online",
            "birth": birth,
            "at": datetime.now(UTC),
            "camera": "test camera",
        }
        return DeviceState(**(fields | changes))
