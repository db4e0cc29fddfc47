"""What the device, stream and film cameras share: OpenCV's VideoCapture, and the newest picture of a live one."""

import threading
import time
from typing import Any

from edge_agent.cameras.base import Image
from edge_agent.errors import CameraError

_STALL_S = 20.0


class LatestPicture:
    """Reads a live source without pause and keeps only its newest picture.

    A driver or a decoder queues pictures that nobody takes; the next one read would show where the stage was seconds
    ago. One thread reads; `wait_newer` returns a picture that arrived after the call.
    """

    def __init__(self, device: Any, *, name: str) -> None:
        self._device = device
        self._name = name
        self._changed = threading.Condition()
        self._image: Image | None = None
        self._arrived = 0.0
        self._started = 0.0
        self._fault = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, name="camera-reader", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._started = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Stop reading and release the device; a read that hangs is left to its own time limit."""
        self._stopping.set()
        self._thread.join(timeout=2.0)

    def wait_newer(self, *, timeout_s: float) -> Image | None:
        """Return a picture that arrived after this call, or None.

        Raises:
            CameraError: When the source has stopped giving pictures.
        """
        asked = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: self._fault or self._arrived > asked, timeout=timeout_s)
            if self._fault:
                raise CameraError(self._fault)
            if time.monotonic() - max(self._arrived, self._started) > _STALL_S:
                raise CameraError(
                    f"{self._name} has given no picture for {_STALL_S:g} s: check its cable, power and network"
                )
            return self._image if self._arrived > asked else None

    def _read(self) -> None:
        fault = ""
        try:
            while not self._stopping.is_set():
                ok, image = self._device.read()
                if not ok or image is None:
                    fault = f"{self._name} stopped giving pictures: check its cable, power and network"
                    break
                with self._changed:
                    self._image, self._arrived = image, time.monotonic()
                    self._changed.notify_all()
        except Exception as error:  # noqa: BLE001 - a driver may raise anything; it means the same
            fault = f"{self._name} failed ({type(error).__name__}): check its driver and its connection"
        finally:
            self._device.release()
            with self._changed:
                self._fault = fault or f"{self._name} is closed"
                self._changed.notify_all()


def as_bgr(image: Any) -> Image:
    """Return a picture as height x width x 3, uint8, BGR, whatever the driver gave."""
    import cv2  # noqa: PLC0415 - loaded on first use
    import numpy as np  # noqa: PLC0415

    if image.dtype != np.uint8:
        image = cv2.convertScaleAbs(image, alpha=255.0 / max(float(image.max()), 1.0))
    if image.ndim == 2:  # noqa: PLR2004 - grey
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    elif image.shape[2] == 4:  # noqa: PLR2004 - BGRA
        image = cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)
    return np.ascontiguousarray(image)
