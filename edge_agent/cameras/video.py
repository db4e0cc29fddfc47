"""A film, taken from its first picture to its last, through OpenCV and FFmpeg."""

import hashlib
from typing import Any, ClassVar

from edge_agent.cameras.base import CameraContext, RawFrame
from edge_agent.cameras.opencv_capture import as_bgr
from edge_agent.cameras.settings import VideoSettings
from edge_agent.errors import CameraEnded, CameraError


class VideoCamera:
    """A film; see `edge_agent.cameras.base.Camera`. After a restart it goes on where the spool has no picture yet."""

    Settings: ClassVar = VideoSettings
    live: ClassVar[bool] = False
    simulated: ClassVar[bool] = False

    def __init__(self, settings: VideoSettings, context: CameraContext) -> None:
        self._settings = settings
        self._seen = context.seen
        self._device: Any = None
        self._identity = ""
        self._next = 0

    @property
    def description(self) -> str:
        """What it is; the file's name may hold a patient's."""
        return "film"

    def open(self) -> None:
        """Open the film at the picture after the last one taken.

        Raises:
            CameraError: If it is missing, not a film, or its pictures are too large.
        """
        import cv2  # noqa: PLC0415 - loaded on first use

        path = self._settings.path
        try:
            status = path.stat()
        except OSError:
            raise CameraError(
                f"the film camera.path names cannot be found ({path}): check the path and its permissions"
            ) from None
        self._identity = f"{path.name}|{status.st_size}|{status.st_mtime_ns}"
        device = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not device.isOpened():
            device.release()
            raise CameraError(
                "the film that camera.path names cannot be read: it must be a film that FFmpeg knows (MP4, AVI, MKV); "
                "export it again from its source"
            )
        pixels = device.get(cv2.CAP_PROP_FRAME_WIDTH) * device.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if pixels > self._settings.max_pixels:
            device.release()
            raise CameraError(
                f"the film's pictures have {pixels:.0f} pixels, more than camera.max_pixels "
                f"({self._settings.max_pixels}): raise it if that is right"
            )
        for _ in range(self._next):
            device.grab()
        self._device = device

    def capture(self, *, timeout_s: float) -> RawFrame | None:  # noqa: ARG002 - a film never keeps anyone waiting
        """Return the next picture of the film; see `Camera`."""
        if self._device is None:
            raise CameraError("the film is not open")
        while True:
            index = self._next
            if index % self._settings.every or self._seen(self._token(index)):
                if not self._device.grab():
                    raise CameraEnded("the film has ended")
                self._next += 1
                continue
            ok, image = self._device.read()
            if not ok or image is None:
                if index == 0:
                    raise CameraError(
                        "the film that camera.path names holds no picture that can be decoded: export it again from its "
                        "source"
                    )
                raise CameraEnded("the film has ended")
            self._next += 1
            return RawFrame(
                as_bgr(image),
                pixel_size_um=self._settings.pixel_size_um,
                source=self._token(index),
                name=f"picture {index} of the film",
            )

    def close(self) -> None:
        """Release the file."""
        if self._device is not None:
            self._device.release()
            self._device = None

    def _token(self, index: int) -> str:
        return hashlib.sha256(f"{self._identity}|{index}".encode()).hexdigest()
