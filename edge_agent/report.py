"""The report: a device's state at one moment, as the broker, the monitor and an order's answer tell it."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from broker_config.device_messages import DeviceState
from broker_config.messages import Presence, now
from edge_agent.cameras.base import Camera
from edge_agent.capture import CaptureLoop
from edge_agent.case_book import CaseBook
from edge_agent.errors import SpoolUnavailable
from edge_agent.spool import Spool
from edge_agent.status import Alarms, Counters

_MAX_SENTENCE = 2000


class Report:
    """Puts together what the parts of the agent know. Any thread may call it.

    Args:
        site: This device's site.
        device: This device.
        camera: Its camera.
        capture: Its capture loop.
        spool: Its spool.
        cases: Its case book.
        counters: What was counted.
        alarms: What is wrong.

    Attributes:
        birth: Number of this start.
        presence: What the device says of itself.
    """

    def __init__(
        self,
        *,
        site: str,
        device: str,
        camera: Camera,
        capture: CaptureLoop,
        spool: Spool,
        cases: CaseBook,
        counters: Counters,
        alarms: Alarms,
    ) -> None:
        self._site, self._device = site, device
        self._camera = camera
        self._capture = capture
        self._spool = spool
        self._cases = cases
        self._counters = counters
        self._alarms = alarms
        self.birth = 0
        self.presence: Presence = "online"

    def state(self) -> DeviceState:
        """Return the device's state at this moment."""
        # First, and then what is spooled: a frame that comes in between is then below no number told here, and a number told
        # here belongs to a frame that is on the disk, settled or parked.
        # Likewise: finished, and nothing spooled, must mean that nothing comes after.
        finished = self._capture.finished
        next_sequence = self._spool.next_sequence
        totals = self._spool.totals
        counts: dict[str, Any] = self._counters.snapshot()
        case = self._cases.current
        return DeviceState(
            site=self._site,
            device=self._device,
            presence=self.presence,
            birth=self.birth,
            at=now(),
            software=f"hemolink {_software()}",
            camera=self._camera.description,
            simulated=self._camera.simulated,
            capturing=self.presence == "online" and self._capture.capturing,
            case=case.code if case else None,
            captured=counts["captured"],
            quality_rejected=counts["quality_rejected"],
            quality_reasons=counts["quality_reasons"],
            unreadable=counts["unreadable"],
            finished=finished,
            next_sequence=next_sequence,
            oldest_waiting=self._oldest_waiting(),
            damaged=totals.damaged,
            spooled=totals.unsettled,
            spool_bytes=totals.size,
            parked=totals.parked,
            settled=counts["settled"],
            signed=counts["signed"],
            last_signed=counts["last_signed"],
            alarm=self._alarms.sentence[:_MAX_SENTENCE],
        )

    def _oldest_waiting(self) -> int | None:
        try:
            return self._spool.oldest_waiting
        except SpoolUnavailable:  # an alarm says so; the state must be told all the same
            return None

    def will(self) -> DeviceState:
        """Return what the broker is to say when the device vanishes."""
        return DeviceState(
            site=self._site,
            device=self._device,
            presence="offline",
            birth=self.birth,
            at=now(),
            camera=self._camera.description,
            simulated=self._camera.simulated,
            alarm="the connection to the device was lost",
        )

    def status(self, *, connected: bool, last_error: str) -> dict[str, Any]:
        """Return what the monitor serves at ``/status``.

        Args:
            connected: Whether the broker is there.
            last_error: Why not.
        """
        return {
            **self.state().model_dump(mode="json"),
            "labels": self._counters.snapshot()["labels"],
            "untold": self._spool.totals.untold,
            "paused": self._capture.paused,
            "connected": connected,
            "last_error": last_error,
        }

    def ready(self, *, connected: Callable[[], tuple[bool, str]]) -> tuple[bool, str]:
        """Return whether the device can do its work, and one sentence that says why not.

        Args:
            connected: Returns whether the broker is there, and why not.
        """
        if self.presence != "online":
            return False, "it is stopping"
        stopped = self._alarms.stopping_work
        if stopped:
            return False, stopped
        is_connected, reason = connected()
        if not is_connected:
            return False, f"{reason} (frames are kept in the spool)"
        return True, self._alarms.sentence or "ready"


def _software() -> str:
    try:
        return version("hemolink")
    except PackageNotFoundError:
        return "0.1.0"
