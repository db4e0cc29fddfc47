"""Keeps a camera open: opens it, and after it vanished opens it again, with growing pauses, for ever."""

import logging

from broker_config.session import backoff_s
from edge_agent.cameras.base import Camera, RawFrame
from edge_agent.errors import CameraError
from edge_agent.status import Alarms

logger = logging.getLogger(__name__)

_REOPEN_FIRST_S = 1.0
_REOPEN_MAX_S = 30.0


class CameraKeeper:
    """Owns the camera. One thread uses it.

    Args:
        camera: The camera.
        alarms: Where to raise alarms.

    Attributes:
        is_open: Whether the camera can be asked for pictures.
    """

    def __init__(self, camera: Camera, *, alarms: Alarms) -> None:
        self._camera = camera
        self._alarms = alarms
        self._failures = 0
        self.is_open = False

    @property
    def live(self) -> bool:
        """Whether pictures not taken now are gone."""
        return self._camera.live

    def open(self) -> float:
        """Open the camera if it is not.

        Returns:
            How many seconds to wait before the next try; 0 when it is open.
        """
        if self.is_open:
            return 0.0
        try:
            self._camera.open()
        except CameraError as error:
            return self.lose(error)
        except Exception as error:  # noqa: BLE001 - a camera of another distribution may raise anything
            return self.lose(CameraError(f"the camera failed to open ({type(error).__name__}: {error})"))
        self.is_open = True
        if self._alarms.clear("camera"):
            logger.info("the camera is back")
        return 0.0

    def capture(self, *, timeout_s: float) -> RawFrame | None:
        """Return the next picture; see `edge_agent.cameras.base.Camera`."""
        raw = self._camera.capture(timeout_s=timeout_s)
        if raw is not None:
            self._failures = 0
        return raw

    def lose(self, error: CameraError) -> float:
        """Close a camera that has failed.

        Returns:
            How many seconds to wait before it is opened again.
        """
        self.close()
        self._failures += 1
        self._alarms.complain("camera", str(error))
        return backoff_s(self._failures, first_s=_REOPEN_FIRST_S, max_s=_REOPEN_MAX_S)

    def close(self) -> None:
        """Close the camera; never raises."""
        self.is_open = False
        try:
            self._camera.close()
        except Exception:
            logger.exception("the camera could not be closed in order")
