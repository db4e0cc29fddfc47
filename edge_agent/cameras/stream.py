"""A network camera (RTSP, HTTP), through OpenCV and FFmpeg."""

from typing import ClassVar
from urllib.parse import quote, urlsplit, urlunsplit

from edge_agent.cameras.base import CameraContext, RawFrame
from edge_agent.cameras.opencv_capture import LatestPicture, as_bgr
from edge_agent.cameras.settings import StreamSettings
from edge_agent.errors import CameraError


class StreamCamera:
    """A network camera; see `edge_agent.cameras.base.Camera`. Its password is never logged."""

    Settings: ClassVar = StreamSettings
    live: ClassVar[bool] = True
    simulated: ClassVar[bool] = False

    def __init__(self, settings: StreamSettings, context: CameraContext) -> None:  # noqa: ARG002
        self._settings = settings
        self._pictures: LatestPicture | None = None

    @property
    def description(self) -> str:
        """The scheme and the host; path and query may hold a secret."""
        parts = urlsplit(self._settings.url)
        return f"stream {parts.scheme}://{parts.hostname or ''}"

    def open(self) -> None:
        """Connect and start reading.

        Raises:
            CameraError: If the address does not answer with pictures, or the password file cannot be read.
        """
        import cv2  # noqa: PLC0415 - loaded on first use

        limit_ms = int(self._settings.timeout_s * 1000)
        device = cv2.VideoCapture(
            self._address(),
            cv2.CAP_FFMPEG,
            [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit_ms],
        )
        if not device.isOpened():
            device.release()
            raise CameraError(
                f"{self.description} gives no pictures: check that the camera is on, the address, the user name and the "
                f"password, and that nothing blocks the way (tried for at most {self._settings.timeout_s:g} s)"
            )
        self._pictures = LatestPicture(device, name=self.description)
        self._pictures.start()

    def capture(self, *, timeout_s: float) -> RawFrame | None:
        """Return the next picture that arrives after the call; see `Camera`."""
        if self._pictures is None:
            raise CameraError("the camera is not open")
        image = self._pictures.wait_newer(timeout_s=timeout_s)
        if image is None:
            return None
        return RawFrame(
            as_bgr(image), pixel_size_um=self._settings.pixel_size_um, name="picture of the stream"
        )

    def close(self) -> None:
        """Stop reading and disconnect."""
        if self._pictures is not None:
            self._pictures.stop()
            self._pictures = None

    def _address(self) -> str:
        chosen = self._settings
        if chosen.username is None:
            return chosen.url
        login = quote(chosen.username, safe="")
        if chosen.password_file is not None:
            try:
                password = chosen.password_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise CameraError(
                    f"camera.password_file {chosen.password_file} cannot be read ({type(error).__name__}): "
                    "check the path and its permissions"
                ) from None
            login += ":" + quote(password, safe="")
        parts = urlsplit(chosen.url)
        return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc}"))
