"""The settings files of the demo's three daemons, as a person could write them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

SITE = "demo"
DEVICE = "scope-1"
WORKER = "worker-1"
POOL = "demo"
WATCHABLE_INTERVAL_S = 1.0
DRAIN_S = 4.0
PATIENTS = 10
FRAMES_PER_CASE = 6
BLANK_SHARE = 0.03
OUT_OF_FOCUS_SHARE = 0.05
IMAGES_CASE = "IMAGES"
ONCE_FRAMES = 40
BrokerKind = Literal["embedded", "mosquitto"]


@dataclass(frozen=True)
class DemoOptions:
    """What the user asked of the demo.

    Attributes:
        images: A folder of real frames; simulated patients if none.
        frames: Stop the camera after so many frames; none: for ever, or the whole folder.
        broker: Which broker to run.
        model: Name or folder of a model package.
        once: End when every captured frame is in the record, or refused with a reason.
        port: Port of the page; 0: any free one.
        seed: Seed of the simulated patients.
    """

    images: Path | None = None
    frames: int | None = None
    broker: BrokerKind = "embedded"
    model: str = "resnet34-simulated"
    once: bool = False
    port: int = 0
    seed: int = 1

    @property
    def frames_wanted(self) -> int | None:
        """How many frames the camera is to give; none for all that it has."""
        if self.frames is None and self.once and self.images is None:
            return ONCE_FRAMES
        return self.frames


def broker_settings(options: DemoOptions, *, port: int) -> dict[str, Any]:
    """Return the ``broker`` section that all three share."""
    protocol = "3.1.1" if options.broker == "embedded" else "5"
    return {"host": "127.0.0.1", "port": port, "protocol": protocol}


def edge_settings(options: DemoOptions, *, directory: Path, broker: Mapping[str, Any]) -> dict[str, Any]:
    """Return the edge's settings."""
    camera: dict[str, Any]
    if options.images is None:
        camera = {
            "kind": "simulated",
            "patients": PATIENTS,
            "frames_per_case": FRAMES_PER_CASE,
            "repeat": True,
            "seed": options.seed,
            "blank": BLANK_SHARE,
            "out_of_focus": OUT_OF_FOCUS_SHARE,
        }
    else:
        camera = {"kind": "folder", "path": str(options.images.resolve()), "case": IMAGES_CASE}
    settings: dict[str, Any] = {
        "site": SITE,
        "device": DEVICE,
        "directory": str(directory / "edge"),
        "broker": dict(broker),
        "camera": camera,
        "delivery": {"settle_on": "recorded", "resend_after_s": 5},
        "drain_s": DRAIN_S,
        "interval_s": 0.0 if options.once else WATCHABLE_INTERVAL_S,
    }
    if options.frames_wanted is not None:
        settings["frames"] = options.frames_wanted
    return settings


def worker_settings(options: DemoOptions, *, directory: Path, broker: Mapping[str, Any]) -> dict[str, Any]:
    """Return the worker's settings; the embedded broker has no shared subscriptions, hence no pool."""
    settings: dict[str, Any] = {
        "worker": WORKER,
        "directory": str(directory / "worker"),
        "broker": dict(broker),
        "model": options.model,
        "drain_s": DRAIN_S,
    }
    if options.broker == "mosquitto":
        settings["pool"] = POOL
    return settings


def dashboard_settings(options: DemoOptions, *, directory: Path, broker: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dashboard's settings."""
    return {
        "host": "127.0.0.1",
        "port": options.port,
        "directory": str(directory / "dashboard"),
        "broker": dict(broker),
    }
