"""A camera that the operating system knows (Video4Linux and its like), through OpenCV."""

from typing import ClassVar

from edge_agent.cameras.base import CameraContext, RawFrame
from edge_agent.cameras.opencv_capture import LatestPicture, as_bgr
from edge_agent.cameras.settings import DeviceSettings
from edge_agent.errors import CameraError


class DeviceCamera:
    """A local camera; see `edge_agent.cameras.base.Camera`."""

    Settings: ClassVar = DeviceSettings
    live: ClassVar[bool] = True
    simulated: ClassVar[bool] = False

    def __init__(self, settings: DeviceSettings, context: CameraContext) -> None:  # noqa: ARG002
        self._settings = settings
        self._pictures: LatestPicture | None = None

    @property
    def description(self) -> str:
        """The device by number."""
        return f"device {self._settings.index}"

    def open(self) -> None:
        """Open the device and start reading it.

        Raises:
            CameraError: If there is no such device, or another program holds it.
        """
        import cv2  # noqa: PLC0415 - loaded on first use

        chosen = self._settings
        device = cv2.VideoCapture(chosen.index)
        if not device.isOpened():
            device.release()
            raise CameraError(
                f"camera device {chosen.index} cannot be opened: connect it, close other programs that use it, let this "
                "user read it (group 'video'), or set camera.index ('ls /dev/video*' lists them)"
            )
        device.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if chosen.width:
            device.set(cv2.CAP_PROP_FRAME_WIDTH, chosen.width)
        if chosen.height:
            device.set(cv2.CAP_PROP_FRAME_HEIGHT, chosen.height)
        if chosen.exposure_ms:
            device.set(cv2.CAP_PROP_AUTO_EXPOSURE, 1)  # 1 is manual in Video4Linux
            device.set(cv2.CAP_PROP_EXPOSURE, chosen.exposure_ms * 10)  # in units of 0.1 ms there
        self._pictures = LatestPicture(device, name=f"camera device {chosen.index}")
        self._pictures.start()

    def capture(self, *, timeout_s: float) -> RawFrame | None:
        """Return the next picture exposed after the call; see `Camera`."""
        if self._pictures is None:
            raise CameraError("the camera is not open")
        image = self._pictures.wait_newer(timeout_s=timeout_s)
        if image is None:
            return None
        return RawFrame(
            as_bgr(image),
            pixel_size_um=self._settings.pixel_size_um,
            exposure_ms=self._settings.exposure_ms,
            name="picture of the device",
        )

    def close(self) -> None:
        """Stop reading and release the device."""
        if self._pictures is not None:
            self._pictures.stop()
            self._pictures = None
