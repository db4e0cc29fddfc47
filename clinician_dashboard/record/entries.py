"""How a frame, a diagnosis and a dead letter enter the record: each changes nothing but a counter when it comes again."""

from typing import Literal

from sqlalchemy import select

from broker_config.messages import Diagnosis, Frame, Rejection
from clinician_dashboard.errors import ConflictingContent, UnusableMessage
from clinician_dashboard.record.batch import Batch
from clinician_dashboard.record.case_summary import count_answer, count_frame, weight_of
from clinician_dashboard.record.ledger import Ledger
from clinician_dashboard.record.tables import DiagnosisRow, FrameRow, RejectionRow

MAX_REJECTIONS = 100_000
"""Of every device together; whoever may publish could otherwise fill the disk with them."""

_FRAME_FIELDS = (
    *("frame_id", "site", "device", "priority", "sequence", "captured_at", "encoding", "width", "height"),
    *("pixel_size_um", "exposure_ms", "focus_um", "stage_x_um", "stage_y_um", "capture_ms", "simulated"),
    "image_sha256",
)
_DIAGNOSIS_FIELDS = {
    *("frame_id", "site", "device", "worker", "model", "probabilities", "prediction", "prediction_set"),
    *(
        "decision",
        "reasons",
        "quality",
        "ood_score",
        "ood_threshold",
        "activation",
        "activation_absent",
        "finer",
        "timings",
        "image_sha256",
    ),
}
_REJECTION_FIELDS = {
    *(
        "frame_id",
        "site",
        "device",
        "sequence",
        "code",
        "reason",
        "attempts",
        "payload_bytes",
        "payload_sha256",
    ),
    "at",
}


Outcome = Literal["taken", "redelivered"]


def enter_frame(batch: Batch, frame: Frame, ledger: Ledger) -> Outcome:
    """Enter a frame whose image is in the image store, and join it with the diagnoses that waited for it.

    Raises:
        ConflictingContent: If the frame is known with another image or case.
    """
    known = batch.frames.get(frame.frame_id)
    batch.alive(frame.site, frame.device)
    if known is not None:
        check_same(known, frame)
        batch.tally("redelivered", "frame")
        if frame.sequence != known.sequence:
            # The same picture, captured again under a new number after its device lost its spool: it is accounted for
            # as the frame that is known.
            ledger.close(batch.session, (frame.site, frame.device), frame.sequence)
        if known.recorded_at is not None:
            batch.applied.recorded.append((known.site, known.device, known.frame_id))
        return "redelivered"
    case = batch.case_of(frame)
    row = FrameRow(
        **{name: getattr(frame, name) for name in _FRAME_FIELDS},
        case=case,
        received_at=batch.at,
        quality=frame.quality.model_dump(mode="json"),
        image_bytes=len(frame.image),
    )
    batch.session.add(row)
    batch.frames[row.frame_id] = row
    batch.touch(case)
    count_frame(case, row)
    ledger.arrived(batch.session, (row.site, row.device), row.sequence)
    waiting = batch.diagnoses_of(row.frame_id)
    for diagnosis in list(waiting):
        if _belongs(diagnosis, row):
            _join(batch, row, diagnosis, ledger)
            continue
        # The image is here and verified; an answer about another one is of no use, and comes again.
        waiting.remove(diagnosis)
        batch.session.delete(diagnosis)
        batch.tally(
            "conflict",
            "diagnosis",
            f"a diagnosis of frame {row.frame_id} is about another image or case; it was dropped",
        )
    return "taken"


def check_same(known: FrameRow, frame: Frame) -> None:
    """Make sure that a frame that came again is the one that is known.

    Raises:
        ConflictingContent: If it is not.
    """
    kept = (known.image_sha256, known.site, known.device, known.case.code)
    if kept != (frame.image_sha256, frame.site, frame.device, frame.case):
        raise ConflictingContent(
            f"frame {frame.frame_id} came again from {frame.site}/{frame.device} with another image or case; the first "
            "stays: look for two devices with one identity, or a camera that reuses ids"
        )


def enter_diagnosis(batch: Batch, diagnosis: Diagnosis, ledger: Ledger) -> Outcome:
    """Enter a diagnosis, and join it with its frame if that is here.

    Raises:
        ConflictingContent: If it is about another image or case than the record's.
    """
    batch.alive(diagnosis.worker)
    others = batch.diagnoses_of(diagnosis.frame_id)
    for known in others:
        if known.weights_sha256 == diagnosis.model.weights_sha256:
            if known.image_sha256 != diagnosis.image_sha256:
                raise ConflictingContent(
                    f"a second diagnosis of frame {diagnosis.frame_id} is about another image; the first stays"
                )
            batch.tally("redelivered", "diagnosis")
            return "redelivered"
    row = DiagnosisRow(
        **diagnosis.model_dump(mode="json", include=_DIAGNOSIS_FIELDS),
        weights_sha256=diagnosis.model.weights_sha256,
        case_code=diagnosis.case,
        diagnosed_at=diagnosis.diagnosed_at,
        received_at=batch.at,
        simulated=diagnosis.simulated,
        joined=False,
    )
    frame = batch.frames.get(diagnosis.frame_id)
    if frame is not None:
        if not _belongs(row, frame):
            raise ConflictingContent(
                f"a diagnosis of frame {diagnosis.frame_id} is about another image or case than the record's; it was "
                "refused"
            )
        _join(batch, frame, row, ledger)
    others.append(row)
    batch.session.add(row)
    return "taken"


def enter_rejection(batch: Batch, rejection: Rejection, ledger: Ledger) -> Outcome:
    """Enter a dead letter once, and close its number in the ledger: a person is told.

    Raises:
        UnusableMessage: If the list of dead letters is full.
    """
    frame = batch.session.get(FrameRow, rejection.frame_id) if rejection.frame_id else None
    if batch.rejections >= MAX_REJECTIONS:
        raise UnusableMessage(
            f"{MAX_REJECTIONS} dead letters are kept already, and one more came from {rejection.site}/{rejection.device}: "
            "see to the cause first",
            code="too_many_rejections",
        )
    sequence = rejection.sequence if rejection.sequence is not None or frame is None else frame.sequence
    if sequence is not None:
        ledger.close(batch.session, (rejection.site, rejection.device), sequence)
    batch.applied.rejections = True
    known = batch.session.scalar(
        select(RejectionRow).where(
            RejectionRow.site == rejection.site,
            RejectionRow.device == rejection.device,
            RejectionRow.payload_sha256 == rejection.payload_sha256,
            RejectionRow.code == rejection.code,
            RejectionRow.frame_id.is_(None)
            if rejection.frame_id is None
            else RejectionRow.frame_id == rejection.frame_id,
            RejectionRow.sequence.is_(None) if sequence is None else RejectionRow.sequence == sequence,
        )
    )
    if known is not None:
        known.announced += 1
        return "redelivered"
    batch.session.add(
        RejectionRow(
            **(rejection.model_dump(include=_REJECTION_FIELDS) | {"sequence": sequence}),
            case_code=rejection.case,
            worker=rejection.by,
            received_at=batch.at,
        )
    )
    batch.session.flush()
    batch.rejections += 1
    if frame is not None:
        batch.touch(frame.case)
    return "taken"


def _join(batch: Batch, frame: FrameRow, diagnosis: DiagnosisRow, ledger: Ledger) -> None:
    before = [one for one in batch.diagnoses_of(frame.frame_id) if one.joined]
    diagnosis.joined = True
    count_answer(frame.case, frame, diagnosis, before=before[-1] if before else None)
    batch.days.add(frame, diagnosis, weight=weight_of(frame), at=batch.at)
    batch.touch(frame.case)
    if frame.recorded_at is None:
        frame.recorded_at = batch.at
        ledger.close(batch.session, (frame.site, frame.device), frame.sequence)
        batch.applied.newly_recorded += 1
        batch.applied.recorded.append((frame.site, frame.device, frame.frame_id))
        batch.applied.latencies_ms.append(
            max(0.0, (frame.recorded_at - frame.captured_at).total_seconds() * 1000)
        )


def _belongs(diagnosis: DiagnosisRow, frame: FrameRow) -> bool:
    return (diagnosis.image_sha256, diagnosis.site, diagnosis.device, diagnosis.case_code) == (
        frame.image_sha256,
        frame.site,
        frame.device,
        frame.case.code,
    )
