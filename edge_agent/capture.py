"""The capture loop: camera, quality gate, encoder, spool, one field after another, on one thread.

Nothing that goes wrong here ends it. A camera that vanishes is opened again with growing pauses; a picture that cannot
be read is counted and passed over; a spool that is full stops capture until there is room, and the picture in hand
waits, for a picture is acknowledged only when it is on the disk.
"""

import logging
import random
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from broker_config.delivery import publication
from broker_config.messages import Frame, new_frame_id
from broker_config.session import backoff_s
from edge_agent.cameras.base import Camera, RawFrame
from edge_agent.case_book import Case, CaseBook
from edge_agent.encoder import Encoded, encode_frame
from edge_agent.errors import (
    CameraEnded,
    CameraError,
    CaseRefused,
    EncodingFailed,
    SpoolFull,
    SpoolUnavailable,
    UnreadableFrame,
)
from edge_agent.gate import QualityGate, Verdict
from edge_agent.label import LabelReader, SlideLabel
from edge_agent.settings import Settings
from edge_agent.spool import Spool, SpooledFrame
from edge_agent.status import AlarmCode, Alarms, Counters

logger = logging.getLogger(__name__)

_CAPTURE_TIMEOUT_S = 0.5
_WAIT_S = 0.25
_REOPEN_FIRST_S = 1.0
_REOPEN_MAX_S = 30.0
_NO_CASE = (
    "no case: pictures are not taken until one is started ('hemolink edge case start CODE', a slide label "
    "'HL1:CODE' under the camera, or 'case' in the settings)"
)


@dataclass
class _Permission:
    """Whether to capture: on, off, or so many fields more."""

    paused: bool
    extra: int = 0


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
        self._camera = camera
        self._spool = spool
        self._cases = cases
        self._counters = counters
        self._alarms = alarms
        self._on_spooled = on_spooled
        self._gate = QualityGate(settings.quality)
        self._labels = LabelReader()
        self._permission = _Permission(paused=settings.start_paused)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._ended = False
        self._is_open = False
        self._failures = 0
        self._spool_closed = False
        self._last_case: Case | None = None
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
        with self._lock:
            self._permission = _Permission(paused=True)

    def resume(self) -> None:
        """Take fields again."""
        with self._lock:
            self._permission = _Permission(paused=False)
        self._wake.set()

    def take(self, frames: int) -> None:
        """Take so many fields though paused, then pause again."""
        with self._lock:
            self._permission = _Permission(paused=True, extra=self._permission.extra + frames)
        self._wake.set()

    def reconfigure(self, settings: Settings) -> None:
        """Use other thresholds, encoding or interval from the next field on."""
        with self._lock:
            self._settings = settings
        self._gate.settings = settings.quality
        self._wake.set()

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        with self._lock:
            return self._settings

    @property
    def paused(self) -> bool:
        """Whether it waits for an order."""
        with self._lock:
            return self._permission.paused and not self._permission.extra

    @property
    def finished(self) -> bool:
        """Whether the source is exhausted, or the number of fields asked for is reached."""
        limit = self._settings.frames
        return self._ended or (limit is not None and self._counters.taken >= limit)

    @property
    def capturing(self) -> bool:
        """Whether fields are being taken at this moment."""
        return self._is_open and not self.paused and not self.finished and not self._alarms.stopping_work

    # The thread

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._turn()
                    self._alarms.clear("capture")
                except Exception as error:
                    logger.exception("capture stumbled; it goes on")
                    self._alarms.raise_(
                        "capture", f"capture stumbled ({type(error).__name__}): see the log, and report it"
                    )
                    self._stopping.wait(1.0)
        finally:
            self._close_camera()

    def _turn(self) -> None:
        if self.finished or self.paused or not self._has_room() or not self._open_camera():
            self._wait(_WAIT_S)
            return
        case = self._cases.current  # before the exposure: a case started later is not this picture's
        started = time.monotonic()
        try:
            raw = self._camera.capture(timeout_s=_CAPTURE_TIMEOUT_S)
        except CameraEnded as error:
            self._ended = True
            self._close_camera()
            logger.info("the camera has no more pictures: %s", error)
            return
        except CameraError as error:
            self._lose_camera(error)
            return
        except UnreadableFrame as error:
            self._pass_over(error)
            return
        if raw is None:
            return
        self._failures = 0
        if self._handle(raw, case, started):
            with self._lock:
                self._permission.extra = max(self._permission.extra - 1, 0)
            self._wait(self.settings.interval_s)

    def _handle(self, raw: RawFrame, case: Case | None, started: float) -> bool:
        """Deal with one picture; returns whether it was a field."""
        label = self._labels.read(raw.image) if self._settings.read_labels and raw.case is None else None
        if label is not None:
            self._start_case(label, raw)
            return False
        owner = self._owner(raw, case)
        if owner is None:
            return False
        self._alarms.clear("case")
        if owner != self._last_case:
            self._gate.forget()
            self._last_case = owner
        verdict = self._gate.judge(raw.image)
        if not verdict.accepted:
            self._refuse(raw, tuple((fault.code, fault.sentence) for fault in verdict.faults), owner)
            return True
        try:
            encoded = encode_frame(raw, self.settings.encoding)
        except EncodingFailed as error:
            self._refuse(raw, (("encoding_failed", str(error)),), owner)
            return True
        return self._keep(raw, encoded=encoded, verdict=verdict, case=owner, started=started)

    def _owner(self, raw: RawFrame, case: Case | None) -> Case | None:
        """Return the case of a picture; a picture of no case is not kept, or waits if its source does not."""
        priority = self._settings.priority
        while not self._stopping.is_set():
            if raw.case is not None:
                return Case(raw.case, priority)
            if case is not None:
                return case
            if raw.default_case is not None:
                return Case(raw.default_case, priority)
            if self._alarms.raise_("case", _NO_CASE):
                logger.warning("%s", _NO_CASE)
            if self._camera.live:
                self._stopping.wait(_WAIT_S)
                return None
            self._stopping.wait(_WAIT_S)
            case = self._cases.current
        return None

    def _keep(self, raw: RawFrame, *, encoded: Encoded, verdict: Verdict, case: Case, started: float) -> bool:
        """Put a field into the spool, waiting for room if there is none; returns whether it is there."""
        frame_id = new_frame_id()
        while not self._stopping.is_set():
            frame = self._message(
                raw, frame_id=frame_id, encoded=encoded, verdict=verdict, case=case, started=started
            )
            try:
                self._spool.add(
                    SpooledFrame(
                        frame_id=frame_id,
                        sequence=frame.sequence,
                        priority=frame.priority,
                        case=frame.case,
                        captured_at=frame.captured_at.isoformat(),
                        payload=publication("", frame).payload,
                        source=raw.source,
                    )
                )
            except SpoolFull as error:
                self._complain("spool", str(error))
            except SpoolUnavailable as error:
                self._complain("disk", str(error))
            else:
                self._counters.accepted()
                self._on_spooled()
                logger.debug("captured", extra={"frame_id": frame_id, "case": case.code})
                return True
            self._stopping.wait(1.0)
        logger.warning("stopped before %s could be spooled: it was not acknowledged", raw.name or "a picture")
        return False

    def _message(
        self, raw: RawFrame, *, frame_id: str, encoded: Encoded, verdict: Verdict, case: Case, started: float
    ) -> Frame:
        height, width = raw.image.shape[:2]
        return Frame(
            frame_id=frame_id,
            case=case.code,
            site=self._settings.site,
            device=self._settings.device,
            priority=case.priority,
            sequence=self._spool.next_sequence,
            captured_at=raw.captured_at,
            encoding=encoded.encoding,
            width=width,
            height=height,
            pixel_size_um=raw.pixel_size_um,
            exposure_ms=raw.exposure_ms,
            focus_um=raw.focus_um,
            stage_x_um=raw.stage_x_um,
            stage_y_um=raw.stage_y_um,
            capture_ms=round((time.monotonic() - started) * 1000, 3),
            quality=verdict.quality,
            simulated=raw.simulated,
            image_sha256=sha256(encoded.data).hexdigest(),
            image=encoded.data,
        )

    def _refuse(self, raw: RawFrame, faults: tuple[tuple[str, str], ...], case: Case) -> None:
        self._spool_note(raw.source)
        self._counters.refused(tuple(code for code, _ in faults))
        logger.info(
            "refused %s: %s",
            raw.name or "a field",
            "; ".join(f"{code}: {sentence}" for code, sentence in faults),
            extra={"case": case.code},
        )

    def _pass_over(self, error: UnreadableFrame) -> None:
        self._spool_note(error.source)
        self._counters.unreadable(error.code)
        logger.warning("passed over, %s: %s", error.code, error)

    def _spool_note(self, source: str) -> None:
        try:
            self._spool.note_source(source)
        except SpoolUnavailable as error:
            self._complain("disk", str(error))

    def _start_case(self, label: SlideLabel, raw: RawFrame) -> None:
        self._counters.label()
        self._spool_note(raw.source)
        current = self._cases.current
        if current is not None and (current.code, current.priority) == (label.case, label.priority):
            return
        try:
            self._cases.start(label.case, priority=label.priority)
        except CaseRefused as error:
            self._complain("case", str(error))
            return
        self._alarms.clear("case")
        self._alarms.changed.set()
        logger.info("a slide label started the case", extra={"case": label.case})

    # The camera and the room for its pictures

    def _open_camera(self) -> bool:
        if self._is_open:
            return True
        try:
            self._camera.open()
        except CameraError as error:
            self._lose_camera(error)
            return False
        except Exception as error:  # noqa: BLE001 - a camera of another distribution may raise anything
            self._lose_camera(CameraError(f"the camera failed to open ({type(error).__name__}: {error})"))
            return False
        self._is_open = True
        if self._alarms.clear("camera"):
            logger.info("the camera is back")
        return True

    def _lose_camera(self, error: CameraError) -> None:
        self._close_camera()
        self._failures += 1
        self._complain("camera", str(error))
        self._wait(backoff_s(self._failures, first_s=_REOPEN_FIRST_S, max_s=_REOPEN_MAX_S))

    def _close_camera(self) -> None:
        self._is_open = False
        try:
            self._camera.close()
        except Exception:
            logger.exception("the camera could not be closed in order")

    def _has_room(self) -> bool:
        limits = self._settings.spool
        filled = self._spool.totals.size / limits.max_bytes
        self._spool_closed = filled >= (limits.low_water if self._spool_closed else limits.high_water)
        if self._spool_closed:
            self._complain(
                "spool",
                f"the spool is {filled:.0%} full, and capture has stopped: bring the broker, the workers and the record "
                "back, or raise spool.max_bytes",
            )
        else:
            self._alarms.clear("spool")
        free = free_bytes(self._settings.directory)
        if free < limits.min_free_bytes:
            self._complain(
                "disk",
                f"the disk has {free // 1_000_000} MB left, and capture has stopped: make room (spool.min_free_bytes is "
                f"{limits.min_free_bytes // 1_000_000} MB)",
            )
            return False
        if not self._spool_closed:
            self._alarms.clear("disk")
        return not self._spool_closed

    def _complain(self, code: AlarmCode, sentence: str) -> None:
        if self._alarms.raise_(code, sentence):
            logger.error("%s", sentence)

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            jittered = seconds if seconds > _WAIT_S else random.uniform(0.9, 1.1) * seconds
            self._wake.wait(jittered)
            if not self._stopping.is_set():
                self._wake.clear()


def free_bytes(directory: Path) -> int:
    """Return the room left on a directory's disk."""
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return 0
