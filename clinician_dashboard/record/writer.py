"""The record's only writer: applies a batch of messages in one transaction.

Applying the same message again changes nothing but a counter, so at-least-once delivery ends as once in the record.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from broker_config.messages import DeviceState, Diagnosis, Frame, Message, Rejection, WorkerState, now
from clinician_dashboard.errors import ConflictingContent, UnusableMessage
from clinician_dashboard.record.case_summary import refresh_case
from clinician_dashboard.record.changes import Applied
from clinician_dashboard.record.database import Record
from clinician_dashboard.record.tables import (
    CaseRow,
    DeviceRow,
    DiagnosisRow,
    FrameRow,
    RejectionRow,
    TallyRow,
    WorkerRow,
)

logger = logging.getLogger(__name__)

MAX_DETAIL = 500


@dataclass(frozen=True)
class Malformed:
    """A message that could not be used, to be counted.

    Attributes:
        code: A short stable reason.
        detail: One sentence for a person.
    """

    code: str
    detail: str


Item = Message | Malformed


class RecordWriter:
    """Applies messages. Use it from one thread.

    Args:
        record: An open record.
        pending_frames: Most frames kept while they wait for a diagnosis.
        pending_diagnoses: Most diagnoses kept while they wait for their image.
        clock: Returns the present time in UTC.
    """

    def __init__(
        self,
        record: Record,
        *,
        pending_frames: int = 20_000,
        pending_diagnoses: int = 20_000,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._record = record
        self._pending_frames = pending_frames
        self._pending_diagnoses = pending_diagnoses
        self._clock = clock

    def apply(self, items: Sequence[Item]) -> Applied:
        """Apply ``items`` in order and commit once.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: If the database refuses; nothing of the batch is in the record.
            OSError: If an image cannot be kept; nothing of the batch is in the record.
        """
        applied = Applied()
        touched: set[int] = set()
        with self._record.session() as session, session.begin():
            for item in items:
                try:
                    self._apply_one(session, item, applied, touched)
                except ConflictingContent as conflict:
                    logger.warning("refused: %s", conflict)
                    if isinstance(item, Frame):
                        applied.refused.append((item.site, item.device, item.frame_id, str(conflict)))
                    self._tally(session, applied, "conflict", type(item).__name__.lower(), str(conflict))
                except UnusableMessage as unusable:
                    self._tally(session, applied, "malformed", unusable.code, str(unusable))
            unused = self._trim(session, applied, touched)
            session.flush()
            for case_id in sorted(touched):
                case = session.get_one(CaseRow, case_id)
                refresh_case(session, case, at=self._clock())
                applied.cases.add((case.site, case.code))
        for sha256 in unused:
            self._remove_image(sha256)
        return applied

    def _apply_one(self, session: Session, item: Item, applied: Applied, touched: set[int]) -> None:
        match item:
            case Frame():
                self._frame(session, item, applied, touched)
            case Diagnosis():
                self._diagnosis(session, item, applied, touched)
            case Rejection():
                self._rejection(session, item, applied, touched)
            case DeviceState():
                row = session.get(DeviceRow, (item.site, item.device))
                self._state(session, row, item, applied)
            case WorkerState():
                row_of_worker = session.get(WorkerRow, item.worker)
                self._state(session, row_of_worker, item, applied)
            case Malformed():
                self._tally(session, applied, "malformed", item.code, item.detail)
            case _:
                raise UnusableMessage(f"a {item.kind} has no place in the record", code="unexpected_kind")

    # Frames and diagnoses

    def _frame(self, session: Session, frame: Frame, applied: Applied, touched: set[int]) -> None:
        known = session.get(FrameRow, frame.frame_id)
        if known is not None:
            if (known.image_sha256, known.site, known.device, known.case.code) != (
                frame.image_sha256,
                frame.site,
                frame.device,
                frame.case,
            ):
                raise ConflictingContent(
                    f"frame {frame.frame_id} came again from {frame.site}/{frame.device} with another image or case; the "
                    "first stays: look for two devices with one identity, or a camera that reuses ids"
                )
            self._tally(session, applied, "redelivered", "frame", "")
            if known.recorded_at is not None:
                applied.recorded.append((known.site, known.device, known.frame_id))
            return
        if self._record.images.put(frame.image) != frame.image_sha256:
            raise UnusableMessage(
                f"frame {frame.frame_id} from {frame.site}/{frame.device} does not match its own image_sha256: it was "
                "damaged on its way; the edge sends it again",
                code="image_hash_mismatch",
            )
        case = self._case_of(session, frame)
        row = FrameRow(
            **frame.model_dump(
                include={
                    *(
                        "frame_id",
                        "site",
                        "device",
                        "priority",
                        "sequence",
                        "captured_at",
                        "encoding",
                        "width",
                        "height",
                    ),
                    *("pixel_size_um", "exposure_ms", "focus_um", "stage_x_um", "stage_y_um", "capture_ms"),
                    *("simulated", "image_sha256"),
                }
            ),
            case_id=case.id,
            received_at=self._clock(),
            quality=frame.quality.model_dump(mode="json"),
            image_bytes=len(frame.image),
        )
        session.add(row)
        session.flush()
        touched.add(case.id)
        waiting = session.scalars(select(DiagnosisRow).where(DiagnosisRow.frame_id == frame.frame_id)).all()
        for diagnosis in waiting:
            if _belongs(diagnosis, row, frame.case):
                self._join(row, diagnosis, applied)
            else:
                # The image is here and verified; an answer about another one is of no use, and comes again.
                session.delete(diagnosis)
                detail = (
                    f"a diagnosis of frame {frame.frame_id} is about another image or case; it was dropped"
                )
                self._tally(session, applied, "conflict", "diagnosis", detail)

    def _diagnosis(self, session: Session, diagnosis: Diagnosis, applied: Applied, touched: set[int]) -> None:
        known = session.scalar(
            select(DiagnosisRow).where(
                DiagnosisRow.frame_id == diagnosis.frame_id,
                DiagnosisRow.weights_sha256 == diagnosis.model.weights_sha256,
            )
        )
        if known is not None:
            if known.image_sha256 != diagnosis.image_sha256:
                raise ConflictingContent(
                    f"a second diagnosis of frame {diagnosis.frame_id} is about another image; the first stays"
                )
            self._tally(session, applied, "redelivered", "diagnosis", "")
            return
        row = DiagnosisRow(
            **diagnosis.model_dump(
                mode="json",
                include={
                    *(
                        "frame_id",
                        "site",
                        "device",
                        "worker",
                        "model",
                        "probabilities",
                        "prediction",
                        "prediction_set",
                    ),
                    *(
                        "decision",
                        "reasons",
                        "quality",
                        "ood_score",
                        "ood_threshold",
                        "activation",
                        "timings",
                    ),
                    "image_sha256",
                },
            ),
            weights_sha256=diagnosis.model.weights_sha256,
            case_code=diagnosis.case,
            diagnosed_at=diagnosis.diagnosed_at,
            received_at=self._clock(),
            simulated=diagnosis.simulated,
            joined=False,
        )
        frame = session.get(FrameRow, diagnosis.frame_id)
        if frame is not None:
            if not _belongs(row, frame, frame.case.code):
                raise ConflictingContent(
                    f"a diagnosis of frame {diagnosis.frame_id} is about another image or case than the record's; it was "
                    "refused"
                )
            self._join(frame, row, applied)
            touched.add(frame.case_id)
        session.add(row)
        session.flush()

    def _join(self, frame: FrameRow, diagnosis: DiagnosisRow, applied: Applied) -> None:
        diagnosis.joined = True
        if frame.recorded_at is None:
            frame.recorded_at = self._clock()
            applied.newly_recorded += 1
            applied.recorded.append((frame.site, frame.device, frame.frame_id))
            applied.latencies_ms.append(
                max(0.0, (frame.recorded_at - frame.captured_at).total_seconds() * 1000)
            )

    def _case_of(self, session: Session, frame: Frame) -> CaseRow:
        case = session.scalar(select(CaseRow).where(CaseRow.site == frame.site, CaseRow.code == frame.case))
        if case is None:
            case = CaseRow(
                site=frame.site, code=frame.case, opened_at=frame.captured_at, changed_at=self._clock()
            )
            session.add(case)
            session.flush()
        return case

    # Dead letters and states

    def _rejection(self, session: Session, rejection: Rejection, applied: Applied, touched: set[int]) -> None:
        known = session.scalar(
            select(RejectionRow).where(
                RejectionRow.site == rejection.site,
                RejectionRow.device == rejection.device,
                RejectionRow.payload_sha256 == rejection.payload_sha256,
                RejectionRow.code == rejection.code,
            )
        )
        applied.rejections = True
        if known is not None:
            known.announced += 1
            return
        fields = {
            "frame_id",
            "site",
            "device",
            "code",
            "reason",
            "attempts",
            "payload_bytes",
            "payload_sha256",
            "at",
        }
        session.add(
            RejectionRow(
                **rejection.model_dump(include=fields),
                case_code=rejection.case,
                worker=rejection.by,
                received_at=self._clock(),
            )
        )
        frame = session.get(FrameRow, rejection.frame_id) if rejection.frame_id else None
        if frame is not None:
            touched.add(frame.case_id)

    def _state(
        self,
        session: Session,
        known: DeviceRow | WorkerRow | None,
        state: DeviceState | WorkerState,
        applied: Applied,
    ) -> None:
        if known is not None and state.birth < known.birth:
            self._tally(session, applied, "stale_state", type(state).__name__.lower(), "")
            return
        if known is None:
            known = (
                DeviceRow(site=state.site, device=state.device)
                if isinstance(state, DeviceState)
                else WorkerRow(worker=state.worker)
            )
            session.add(known)
        known.birth = state.birth
        known.presence = state.presence
        known.heard_at = self._clock()
        known.state = state.model_dump(mode="json")
        applied.fleet = True
        session.flush()

    # Bounds and counters

    def _trim(self, session: Session, applied: Applied, touched: set[int]) -> set[str]:
        """Drop the oldest of what waits beyond its bound; return images that no row names any more."""
        unused: set[str] = set()
        waiting_frames = FrameRow.recorded_at.is_(None)
        excess = (session.scalar(select(func.count()).where(waiting_frames)) or 0) - self._pending_frames
        if excess > 0:
            oldest = select(FrameRow).where(waiting_frames).order_by(FrameRow.received_at).limit(excess)
            for frame in session.scalars(oldest).all():
                touched.add(frame.case_id)
                unused.add(frame.image_sha256)
                session.delete(frame)
                self._tally(
                    session, applied, "pending_dropped", "frame", "no diagnosis came; the edge sends it again"
                )
            session.flush()
            still = session.scalars(select(FrameRow.image_sha256).where(FrameRow.image_sha256.in_(unused)))
            unused -= set(still.all())
        waiting = DiagnosisRow.joined.is_(False)
        excess = (session.scalar(select(func.count()).where(waiting)) or 0) - self._pending_diagnoses
        if excess > 0:
            eldest = select(DiagnosisRow).where(waiting).order_by(DiagnosisRow.id).limit(excess)
            for diagnosis in session.scalars(eldest).all():
                session.delete(diagnosis)
                self._tally(session, applied, "pending_dropped", "diagnosis", "its image never came")
        return unused

    def _tally(self, session: Session, applied: Applied, name: str, code: str, detail: str) -> None:
        row = session.get(TallyRow, (name, code))
        if row is None:
            row = TallyRow(name=name, code=code, count=0, last_at=self._clock(), last_detail="")
            session.add(row)
        row.count += 1
        row.last_at = self._clock()
        if detail:
            row.last_detail = detail.encode("utf-8", "replace").decode()[:MAX_DETAIL]
        applied.tallies[name, code] = applied.tallies.get((name, code), 0) + 1

    def _remove_image(self, sha256: str) -> None:
        path: Path = self._record.images.path(sha256)
        try:
            self._record.images.remove(sha256)
        except OSError as error:
            logger.warning("the unused image %s could not be removed (%s)", path.name, error.strerror)


def _belongs(diagnosis: DiagnosisRow, frame: FrameRow, case_code: str) -> bool:
    return (diagnosis.image_sha256, diagnosis.site, diagnosis.device, diagnosis.case_code) == (
        frame.image_sha256,
        frame.site,
        frame.device,
        case_code,
    )
