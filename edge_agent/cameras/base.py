"""The boundary between the agent and any source of pictures."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from broker_config.messages import ImageEncoding, now

Image = NDArray[np.uint8]
"""Height x width x 3, BGR."""


@dataclass(frozen=True)
class Original:
    """The picture as its source encoded it, metadata removed, decodable, so that it need not be encoded again."""

    data: bytes = field(repr=False)
    encoding: ImageEncoding


@dataclass(frozen=True)
class RawFrame:
    """One picture as a camera gave it.

    Attributes:
        image: Height x width x 3, uint8, BGR.
        captured_at: When, in UTC.
        original: The encoded picture, where the source had one worth keeping.
        pixel_size_um: Side of a pixel in the specimen plane.
        exposure_ms: Exposure time.
        focus_um: Stage height relative to the plane of focus.
        stage_x_um: Stage position.
        stage_y_um: Stage position.
        simulated: Whether the picture was rendered and not taken.
        case: The case this picture belongs to, where the source knows it for certain.
        default_case: The case it belongs to when neither an operator nor the settings name one.
        source: A token that is the same whenever this picture is read again; empty for a live camera.
        name: How the log may call it; never a file name unless the operator allowed that.
    """

    image: Image = field(repr=False)
    captured_at: datetime = field(default_factory=now)
    original: Original | None = field(default=None, repr=False)
    pixel_size_um: float | None = None
    exposure_ms: float | None = None
    focus_um: float | None = None
    stage_x_um: float | None = None
    stage_y_um: float | None = None
    simulated: bool = False
    case: str | None = None
    default_case: str | None = None
    source: str = ""
    name: str = ""


def _nothing_seen(_source: str) -> bool:
    return False


def _nothing_forgotten() -> int:
    return 0


@dataclass(frozen=True)
class CameraContext:
    """What the agent lends a camera.

    Attributes:
        seen: Tells whether the picture with this token has been dealt with, in this run or an earlier one.
        forgotten: Rises when a picture that had been dealt with must be taken again, because the disk lost its frame.
    """

    seen: Callable[[str], bool] = _nothing_seen
    forgotten: Callable[[], int] = _nothing_forgotten


class Camera(Protocol):
    """A source of pictures.

    One thread owns a camera: it opens it, captures, and closes it. After a `CameraError` the owner closes it, waits
    and opens it again, for ever. A camera whose constructor is called with valid settings never raises there.

    Attributes:
        Settings: The model of its settings; unknown keys are refused. Its ``kind`` is the camera's name.
        live: Whether pictures not taken now are gone; a file or a film waits.
        simulated: Whether its pictures are rendered.
    """

    Settings: ClassVar[type[BaseModel]]
    live: ClassVar[bool]
    simulated: ClassVar[bool]

    def __init__(self, settings: Any, context: CameraContext) -> None:
        """Store; nothing is opened."""

    @property
    def description(self) -> str:
        """One line that names the source, with no secret and no patient data in it."""

    def open(self) -> None:
        """Make ready to capture.

        Raises:
            CameraError: With the cause and the remedy.
        """

    def capture(self, *, timeout_s: float) -> RawFrame | None:
        """Return the next picture, or None when there was none within ``timeout_s``.

        A live camera returns a picture that was exposed after the call.

        Raises:
            CameraEnded: When there will be no more.
            CameraError: When the camera has vanished.
            UnreadableFrame: When this one picture cannot be read; the next call goes on.
        """

    def close(self) -> None:
        """Release everything; harmless when not open. Never raises."""
