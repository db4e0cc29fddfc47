"""The intake of one picture: whose it is, whether it is good, and into the spool with it.

A picture is acknowledged only when it is on the disk. Its source is noted in the same transaction, or, for one that gives
no frame, after the reason is told. So however the agent ends, a file is neither lost nor taken twice.
"""

import logging
import threading
import time
from collections.abc import Callable
from hashlib import sha256

from broker_config.delivery import publication
from broker_config.messages import Frame, new_frame_id
from edge_agent.cameras.base import RawFrame
from edge_agent.case_book import Case, CaseBook
from edge_agent.encoder import Encoded, encode_frame
from edge_agent.errors import CaseRefused, EncodingFailed, SpoolFull, SpoolUnavailable, UnreadableFrame
from edge_agent.gate import QualityGate, Verdict
from edge_agent.label import LabelReader, SlideLabel
from edge_agent.settings import Settings
from edge_agent.spool import Spool, SpooledFrame
from edge_agent.status import Alarms, Counters

logger = logging.getLogger(__name__)

_CASE_LOOK_S = 0.5
_DISK_LOOK_S = 1.0
_NO_CASE = (
    "no case: pictures are not taken until one is started ('hemolink edge case start CODE', a slide label "
    "'HL1:CODE' under the camera, or 'case' in the settings)"
)


class FieldIntake:
    """Takes in one picture after another. One thread uses it.

    Args:
        settings: Thresholds, encoding, names; may be replaced between two pictures.
        spool: Where frames go.
        cases: Which case they belong to.
        counters: Where to count.
        alarms: Where to raise alarms.
        on_spooled: Called after each frame that is in the spool.
        stopping: Set when nobody waits for room or a case any more.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        spool: Spool,
        cases: CaseBook,
        counters: Counters,
        alarms: Alarms,
        on_spooled: Callable[[], None],
        stopping: threading.Event,
    ) -> None:
        self._settings = settings
        self._spool = spool
        self._cases = cases
        self._counters = counters
        self._alarms = alarms
        self._on_spooled = on_spooled
        self._stopping = stopping
        self._gate = QualityGate(settings.quality)
        self._labels = LabelReader()
        self._last_case: Case | None = None

    def use(self, settings: Settings) -> None:
        """Use other thresholds or another encoding from the next picture on."""
        self._settings = settings
        self._gate.settings = settings.quality

    def take(self, raw: RawFrame, case: Case | None, *, started: float, live: bool) -> bool:
        """Deal with one picture.

        Args:
            raw: The picture.
            case: The case on the stage before the exposure: one started later is not this picture's.
            started: When the exposure was asked for, `time.monotonic`.
            live: Whether a picture not kept now is gone.

        Returns:
            Whether it was a field.
        """
        label = self._labels.read(raw.image) if self._settings.read_labels and raw.case is None else None
        if label is not None:
            self._start_case(label, raw)
            return False
        owner = self._owner(raw, case, live=live)
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
            encoded = encode_frame(raw, self._settings.encoding)
        except EncodingFailed as error:
            self._refuse(raw, (("encoding_failed", str(error)),), owner)
            return True
        return self._keep(raw, encoded=encoded, verdict=verdict, case=owner, started=started)

    def pass_over(self, error: UnreadableFrame) -> None:
        """Count a picture that cannot be read."""
        logger.warning("passed over, %s: %s", error.code, error)
        self._counters.unreadable(error.code)
        self._note(error.source)

    def _owner(self, raw: RawFrame, case: Case | None, *, live: bool) -> Case | None:
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
            self._stopping.wait(_CASE_LOOK_S)
            if live:
                return None
            case = self._cases.current
        return None

    def _keep(self, raw: RawFrame, *, encoded: Encoded, verdict: Verdict, case: Case, started: float) -> bool:
        """Put a field into the spool, waiting for room if there is none; returns whether it is there."""
        frame_id = self._frame_id(raw.source)
        if raw.source and self._is_there(frame_id):
            self._note(raw.source)
            return True
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
                self._alarms.complain("spool", str(error))
            except SpoolUnavailable as error:
                self._alarms.complain("disk", str(error))
            else:
                self._counters.accepted()
                self._on_spooled()
                logger.debug("captured", extra={"frame_id": frame_id, "case": case.code})
                return True
            self._stopping.wait(_DISK_LOOK_S)
        logger.warning("stopped before %s could be spooled: it was not acknowledged", raw.name or "a picture")
        return False

    def _frame_id(self, source: str) -> str:
        """Return the frame's id: of a picture that can be read again, always the same one.

        So a file whose source was forgotten with a damaged disk, and that is taken again after its frame had left, is one
        frame to the fleet and to the record.
        """
        if not source:
            return new_frame_id()
        device = f"{self._settings.site}/{self._settings.device}"
        return sha256(f"{device}|{source}".encode()).hexdigest()[:32]

    def _is_there(self, frame_id: str) -> bool:
        """Whether the spool holds this very frame."""
        try:
            return self._spool.row(frame_id) is not None
        except SpoolUnavailable:
            return False  # it says so again when the frame is added

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
        logger.info(
            "refused %s: %s",
            raw.name or "a field",
            "; ".join(f"{code}: {sentence}" for code, sentence in faults),
            extra={"case": case.code},
        )
        self._counters.refused(tuple(code for code, _ in faults))
        self._note(raw.source)

    def _note(self, source: str) -> None:
        """Note a source that gave no frame, waiting for the disk if it is full: a file is not taken twice.

        It comes after the log: if the agent dies in between, the reason is told a second time and not never.
        """
        while source and not self._stopping.is_set():
            try:
                self._spool.note_source(source)
            except SpoolUnavailable as error:
                self._alarms.complain("disk", str(error))
                self._stopping.wait(_DISK_LOOK_S)
            else:
                return

    def _start_case(self, label: SlideLabel, raw: RawFrame) -> None:
        self._counters.label()
        current = self._cases.current
        if current is None or (current.code, current.priority) != (label.case, label.priority):
            try:
                self._cases.start(label.case, priority=label.priority)
            except CaseRefused as error:
                self._alarms.complain("case", str(error))
            else:
                self._alarms.clear("case")
                self._alarms.changed.set()
                logger.info("a slide label started the case", extra={"case": label.case})
        self._note(raw.source)
