"""The settings of every built-in camera, importable without OpenCV so that a settings file can be checked anywhere."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from broker_config.messages import CaseCode
from broker_config.settings import Section

_PIXEL_SIZE = Field(None, gt=0, le=100, description="side of a pixel in the specimen plane, micrometres")


class DeviceSettings(Section):
    """A camera that the operating system knows, such as /dev/video0."""

    kind: Literal["device"] = "device"
    index: int = Field(0, ge=0, le=255, description="number of the device: 0 is /dev/video0")
    width: int | None = Field(None, ge=16, le=65535, description="frame width to ask for, pixels")
    height: int | None = Field(None, ge=16, le=65535, description="frame height to ask for, pixels")
    exposure_ms: float | None = Field(None, gt=0, le=10_000, description="fixed exposure; automatic if none")
    pixel_size_um: float | None = _PIXEL_SIZE


class StreamSettings(Section):
    """A network camera."""

    kind: Literal["stream"] = "stream"
    url: str = Field(
        pattern=r"^(rtsps?|https?|rtmp|udp|tcp)://[^\s@]+$",
        description="rtsp:// or http:// address, without user name or password",
    )
    username: str | None = Field(None, description="user name at the camera")
    password_file: Path | None = Field(None, description="file that holds the camera's password")
    timeout_s: float = Field(10.0, gt=0, le=300, description="for opening, and for the next picture")
    pixel_size_um: float | None = _PIXEL_SIZE


class VideoSettings(Section):
    """A film, taken from its first picture to its last."""

    kind: Literal["video"] = "video"
    path: Path = Field(description="the film")
    every: int = Field(1, ge=1, le=100_000, description="take one picture in so many")
    max_pixels: int = Field(
        50_000_000, ge=256, le=500_000_000, description="largest picture that is decoded, width times height"
    )
    pixel_size_um: float | None = _PIXEL_SIZE


class FolderSettings(Section):
    """A folder of pictures; each file is taken once."""

    kind: Literal["folder"] = "folder"
    path: Path = Field(description="the folder; its own files only, hidden ones excepted")
    watch: bool = Field(default=False, description="wait for more files; otherwise end after the last one")
    case: CaseCode = Field("folder", description="case of the pictures when no other is named")
    settle_s: float = Field(
        1.0, ge=0, le=600, description="a file that changed more recently is still being written"
    )
    max_file_bytes: int = Field(
        64_000_000, ge=1024, le=1_000_000_000, description="larger files are refused unread"
    )
    max_pixels: int = Field(
        50_000_000, ge=256, le=500_000_000, description="largest picture that is decoded, width times height"
    )
    log_file_names: bool = Field(
        default=False, description="show file names in the log; they may hold patients' names"
    )
    pixel_size_um: float | None = _PIXEL_SIZE


class SimulatedSettings(Section):
    """Simulated patients under a simulated microscope."""

    kind: Literal["simulated"] = "simulated"
    patients: int = Field(10, ge=1, le=100_000, description="number of patients; each is a case")
    frames_per_case: int = Field(4, ge=1, le=10_000, description="fields taken from each patient's slide")
    repeat: bool = Field(default=False, description="start again with new patients after the last one")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of patients and noise")
    width: int = Field(640, ge=64, le=4096, description="frame width, pixels")
    height: int = Field(480, ge=64, le=4096, description="frame height, pixels")
    pixel_size_um: float = Field(
        0.125, ge=0.04, le=1, description="side of a pixel in the specimen plane, micrometres"
    )
    blank: float = Field(0.0, ge=0, le=1, description="share of fields that show no cells")
    out_of_focus: float = Field(0.0, ge=0, le=1, description="share of fields that are far out of focus")


class OtherSettings(Section):
    """A camera that another distribution provides through the entry-point group ``hemolink.cameras``."""

    kind: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,47}$", description="the entry point's name")
    options: dict[str, Any] = Field(default_factory=dict, description="settings of that camera")


BUILT_IN = ("device", "stream", "video", "folder", "simulated")


def _tag(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return kind if kind in BUILT_IN else "other"


CameraSettings = Annotated[
    Annotated[DeviceSettings, Tag("device")]
    | Annotated[StreamSettings, Tag("stream")]
    | Annotated[VideoSettings, Tag("video")]
    | Annotated[FolderSettings, Tag("folder")]
    | Annotated[SimulatedSettings, Tag("simulated")]
    | Annotated[OtherSettings, Tag("other")],
    Discriminator(_tag),
]
"""The camera section: which keys it knows depends on ``kind``."""
