"""Keeps a case's row in step with its frames, so that the worklist is one query over one table.

A frame is added to sums that the row carries: the ten-thousandth frame of a case costs what the first one did.
"""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from broker_config.messages import Quality
from clinician_dashboard.case_result import URGENCIES, FrameReading, Totals, quality_weight
from clinician_dashboard.record.tables import CaseRow, DiagnosisRow, FrameRow, RejectionRow


def reading_of(frame: FrameRow, diagnosis: DiagnosisRow) -> FrameReading:
    """Return what one answer about one frame contributes to its case."""
    return FrameReading(
        probabilities=diagnosis.probabilities,  # type: ignore[arg-type]
        decision=diagnosis.decision,  # type: ignore[arg-type]
        weight=quality_weight(Quality.model_validate(frame.quality)),
    )


def count_answer(
    case: CaseRow, frame: FrameRow, diagnosis: DiagnosisRow, *, before: DiagnosisRow | None
) -> None:
    """Take an answer into the case's sums. Where two models read a frame, the later answer counts.

    Args:
        case: The frame's case.
        frame: The frame.
        diagnosis: The answer, just joined.
        before: The answer of another model that counted until now.
    """
    totals = Totals.from_fields(case.totals or {})
    models = dict((case.totals or {}).get("models", {}))
    if before is not None:
        totals.remove(reading_of(frame, before))
        models[before.weights_sha256] = models.get(before.weights_sha256, 1) - 1
    totals.add(reading_of(frame, diagnosis))
    models[diagnosis.weights_sha256] = models.get(diagnosis.weights_sha256, 0) + 1
    case.totals = {
        **asdict(totals),
        "models": {name: number for name, number in models.items() if number > 0},
    }
    case.simulated = case.simulated or diagnosis.simulated


def count_frame(case: CaseRow, frame: FrameRow) -> None:
    """Note a new frame of the case, read or not."""
    case.opened_at = min(case.opened_at, frame.captured_at)
    case.stat = bool(case.stat) or frame.priority == "stat"
    case.simulated = bool(case.simulated) or frame.simulated
    devices = {name for name in (case.devices or "").split(", ") if name}
    if frame.device not in devices:
        case.devices = ", ".join(sorted(devices | {frame.device}))


def refresh_cases(session: Session, cases: Iterable[CaseRow], *, at: datetime) -> None:
    """Compute the columns of ``cases`` from their sums, and count what waits; their frames must have been flushed."""
    rows = {case.id: case for case in cases}
    refused = exists().where(RejectionRow.frame_id == FrameRow.frame_id)
    counted = session.execute(
        select(FrameRow.case_id, func.count())
        .where(FrameRow.case_id.in_(rows), FrameRow.recorded_at.is_(None), ~refused)
        .group_by(FrameRow.case_id)
    )
    waiting = {row[0]: row[1] for row in counted}
    for case_id, case in rows.items():
        totals = Totals.from_fields(case.totals)
        result = totals.result()
        case.waiting = waiting.get(case_id, 0)
        case.recorded = totals.counted + totals.referred
        case.referred = totals.referred
        case.decision = result.decision
        case.leading = result.leading
        case.urgency = result.urgency
        case.urgency_rank = URGENCIES.index(result.urgency)
        case.result = {**asdict(result), "models": len(case.totals.get("models", {}))}
        case.changed_at = at
        case.revision = (case.revision or 0) + 1
        if case.recorded and case.first_result_at is None:
            case.first_result_at = at


def recount(session: Session, case: CaseRow) -> None:
    """Compute the case's sums from every frame of it: for a record that has none yet."""
    case.totals = {}
    answers = session.execute(
        select(FrameRow, DiagnosisRow)
        .join(DiagnosisRow, DiagnosisRow.frame_id == FrameRow.frame_id)
        .where(FrameRow.case_id == case.id, DiagnosisRow.joined)
        .order_by(DiagnosisRow.id)
    )
    latest: dict[str, DiagnosisRow] = {}
    for frame, diagnosis in answers:
        count_answer(case, frame, diagnosis, before=latest.get(frame.frame_id))
        latest[frame.frame_id] = diagnosis
