"""Keeps a case's row in step with its frames, so that the worklist is one query over one table."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from broker_config.messages import Quality
from clinician_dashboard.case_result import URGENCIES, CaseResult, FrameReading, combine, quality_weight
from clinician_dashboard.record.tables import CaseRow, DiagnosisRow, FrameRow, RejectionRow


def refresh_case(session: Session, case: CaseRow, *, at: datetime) -> None:
    """Compute ``case``'s columns from its frames. Where two models read a frame, the later answer counts."""
    rows = session.execute(
        select(
            FrameRow.frame_id,
            FrameRow.quality,
            DiagnosisRow.probabilities,
            DiagnosisRow.decision,
            DiagnosisRow.simulated,
            DiagnosisRow.weights_sha256,
        )
        .join(DiagnosisRow, DiagnosisRow.frame_id == FrameRow.frame_id)
        .where(FrameRow.case_id == case.id, DiagnosisRow.joined)
        .order_by(DiagnosisRow.id)
    ).all()
    latest = {row.frame_id: row for row in rows}
    result = combine(
        [
            FrameReading(
                probabilities=row.probabilities,
                decision=row.decision,
                weight=quality_weight(Quality.model_validate(row.quality)),
            )
            for row in latest.values()
        ]
    )
    opened_at, stat, simulated = session.execute(
        select(
            func.min(FrameRow.captured_at),
            func.max(FrameRow.priority == "stat"),
            func.max(FrameRow.simulated),
        ).where(FrameRow.case_id == case.id)
    ).one()
    refused = select(RejectionRow.frame_id).where(RejectionRow.frame_id.is_not(None))
    case.waiting = (
        session.scalar(
            select(func.count()).where(
                FrameRow.case_id == case.id, FrameRow.recorded_at.is_(None), FrameRow.frame_id.not_in(refused)
            )
        )
        or 0
    )
    devices = session.scalars(select(FrameRow.device).where(FrameRow.case_id == case.id).distinct())
    case.devices = ", ".join(sorted(devices))
    case.opened_at = opened_at or case.opened_at
    case.stat = bool(stat)
    case.simulated = bool(simulated) or any(row.simulated for row in latest.values())
    case.recorded = len(latest)
    case.referred = result.referred
    case.decision = result.decision
    case.leading = result.leading
    case.urgency = result.urgency
    case.urgency_rank = URGENCIES.index(result.urgency)
    case.result = {**result_fields(result), "models": len({row.weights_sha256 for row in latest.values()})}
    case.changed_at = at
    case.revision = case.revision + 1
    if latest and case.first_result_at is None:
        case.first_result_at = at


def result_fields(result: CaseResult) -> dict[str, Any]:
    """Return a case's result as plain fields, for JSON."""
    return asdict(result)
