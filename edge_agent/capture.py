"""The capture loop: one field after another from the camera to the spool, on one thread.

Nothing that goes wrong here ends it. A camera that vanishes is opened again; a picture that cannot be read is counted and
passed over; a spool that is full stops capture until there is room, and the picture in hand waits.
"""

import logging
import random
import threading
import time
from collections.abc import Callable

from edge_agent.camera_keeper import CameraKeeper
from edge_agent.cameras.base import Camera
from edge_agent.case_book import CaseBook
from edge_agent.errors import CameraEnded, CameraError, UnreadableFrame
from edge_agent.field_intake import FieldIntake
from edge_agent.permission import Permission
from edge_agent.room import Room
from edge_agent.settings import Settings
from edge_agent.spool import Spool
from edge_agent.status import Alarms, Counters

logger = logging.getLogger(__name__)

_CAPTURE_TIMEOUT_S = 0.5
_NO_ROOM_S = 0.5
_STUMBLE_S = 1.0


class CaptureLoop:
    """Takes fields from the camera into the spool until told to stop.

    Args:
        settings: The agent's settings; ``quality``, ``encoding`` and ``interval_s`` may be replaced by `reconfigure`.
        camera: Where pictures come from; this loop alone touches it.
        spool: Where they go.
        cases: Which case they belong to.
        counters: Where to count.
        alarms: Where to raise alarms.
        on_spooled: Called after each frame that is in the spool.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        camera: Camera,
        spool: Spool,
        cases: CaseBook,
        counters: Counters,
        alarms: Alarms,
        on_spooled: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._cases = cases
        self._counters = counters
        self._alarms = alarms
        self._stopping = threading.Event()
        self._camera = CameraKeeper(camera, alarms=alarms)
        self._room = Room(settings.spool, directory=settings.directory, spool=spool, alarms=alarms)
        self._permission = Permission(paused=settings.start_paused)
        self._intake = FieldIntake(
            settings,
            spool=spool,
            cases=cases,
            counters=counters,
            alarms=alarms,
            on_spooled=on_spooled,
            stopping=self._stopping,
        )
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ended = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to capture, on a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop after the field in hand, and close the camera."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    # Orders from other threads

    def pause(self) -> None:
        """Take no more fields until `resume` or `take`."""
        self._permission.pause()

    def resume(self) -> None:
        """Take fields again."""
        self._permission.resume()
        self._wake.set()

    def take(self, frames: int) -> None:
        """Take so many fields though paused, then pause again."""
        self._permission.grant(frames)
        self._wake.set()

    def reconfigure(self, settings: Settings) -> None:
        """Use other thresholds, encoding or interval from the next field on."""
        with self._lock:
            self._settings = settings
        self._intake.use(settings)
        self._wake.set()

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        with self._lock:
            return self._settings

    @property
    def paused(self) -> bool:
        """Whether it waits for an order."""
        return not self._permission.given

    @property
    def finished(self) -> bool:
        """Whether the source is exhausted, or the number of fields asked for is reached."""
        limit = self._settings.frames
        return self._ended or (limit is not None and self._counters.taken >= limit)

    @property
    def capturing(self) -> bool:
        """Whether fields are being taken at this moment."""
        return (
            self._camera.is_open and not self.paused and not self.finished and not self._alarms.stopping_work
        )

    # The thread

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    pause_s = self._turn()
                    self._alarms.clear("capture")
                except Exception as error:
                    logger.exception("capture stumbled; it goes on")
                    self._alarms.raise_(
                        "capture", f"capture stumbled ({type(error).__name__}): see the log, and report it"
                    )
                    pause_s = _STUMBLE_S
                self._wait(pause_s)
        finally:
            self._camera.close()

    def _turn(self) -> float | None:
        """Take one picture, if one may be taken; return how long to wait then, none for until an order comes."""
        if self.finished or self.paused:
            return None
        if not self._room.look():
            return _NO_ROOM_S
        closed_for_s = self._camera.open()
        if closed_for_s:
            return closed_for_s
        try:
            was_field = self._take_picture()
        except CameraError as error:
            return self._camera.lose(error)
        return random.uniform(0.9, 1.1) * self.settings.interval_s if was_field else 0.0

    def _take_picture(self) -> bool:
        """Take one picture, or find that there is none at the moment; return whether it was a field."""
        case = self._cases.current
        started = time.monotonic()
        try:
            raw = self._camera.capture(timeout_s=_CAPTURE_TIMEOUT_S)
        except CameraEnded as error:
            self._ended = True
            self._camera.close()
            self._alarms.changed.set()
            logger.info("the camera has no more pictures: %s", error)
            return False
        except UnreadableFrame as error:
            self._intake.pass_over(error)
            return False
        if raw is None or not self._intake.take(raw, case, started=started, live=self._camera.live):
            return False
        self._permission.use()
        return True

    def _wait(self, seconds: float | None) -> None:
        if seconds is None or seconds > 0:
            self._wake.wait(seconds)
            if not self._stopping.is_set():
                self._wake.clear()
