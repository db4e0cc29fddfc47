"""Keeps a case's row in step with its frames, so that the worklist is one query over one table.

A frame is added to sums that the row carries: the ten-thousandth frame of a case costs what the first one did.
"""

from collections.abc import Collection, Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from broker_config.messages import Quality
from clinician_dashboard.case_result import (
    URGENCIES,
    FrameReading,
    Totals,
    Urgency,
    combine_models,
    quality_weight,
    with_reader,
)
from clinician_dashboard.record.desk_tables import ModelRow
from clinician_dashboard.record.tables import CaseRow, DiagnosisRow, FrameRow, RejectionRow


def weight_of(frame: FrameRow) -> float:
    """Return how much a frame counts, by its image quality."""
    return quality_weight(Quality.model_validate(frame.quality))


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
    models = by_model(case)
    weight = weight_of(frame)
    if before is not None:
        models[before.weights_sha256].remove(_reading(before, weight))
    models.setdefault(diagnosis.weights_sha256, Totals()).add(_reading(diagnosis, weight))
    case.totals = _fields(models)
    case.simulated = case.simulated or diagnosis.simulated


def by_model(case: CaseRow) -> dict[str, Totals]:
    """Return the case's sums for each model version, by its weights."""
    kept = (case.totals or {}).get("models", {})
    return {weights: Totals.from_fields(fields) for weights, fields in kept.items()}


def _fields(models: dict[str, Totals]) -> dict[str, Any]:
    return {
        "models": {
            weights: asdict(totals) for weights, totals in models.items() if totals.counted + totals.referred
        }
    }


def _reading(diagnosis: DiagnosisRow, weight: float) -> FrameReading:
    return FrameReading(
        probabilities=diagnosis.probabilities,  # type: ignore[arg-type]
        decision=diagnosis.decision,  # type: ignore[arg-type]
        weight=weight,
    )


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
    if not rows:
        return
    refused = exists().where(RejectionRow.frame_id == FrameRow.frame_id)
    counted = session.execute(
        select(FrameRow.case_id, func.count())
        .where(FrameRow.case_id.in_(rows), FrameRow.recorded_at.is_(None), ~refused)
        .group_by(FrameRow.case_id)
    )
    waiting = {row[0]: row[1] for row in counted}
    stopped = stopped_models(session)
    for case_id, case in rows.items():
        case.waiting = waiting.get(case_id, 0)
        apply_result(case, stopped=stopped)
        case.changed_at = at
        case.revision = (case.revision or 0) + 1
        if case.recorded and case.first_result_at is None:
            case.first_result_at = at


def stopped_models(session: Session) -> frozenset[str]:
    """Return the weights of the model versions that are stopped."""
    return frozenset(session.scalars(select(ModelRow.weights_sha256).where(ModelRow.stopped_at.is_not(None))))


def apply_result(case: CaseRow, *, stopped: Collection[str]) -> None:
    """Compute the case's result from its sums, leaving out what stopped model versions said."""
    models = by_model(case)
    totals, result = combine_models(models, stopped=stopped)
    case.totals = {**asdict(totals), **_fields(models)}
    case.recorded = totals.counted + totals.referred
    case.referred = totals.referred
    case.decision = result.decision
    case.leading = result.leading
    case.result = {**asdict(result), "models": len(models), "reader_suspects": case.reader_suspects}
    _set_urgency(case)


def note_suspicion(case: CaseRow, *, suspects: bool, at: datetime) -> bool:
    """Note whether a reader suspects acute leukaemia, and move the case; returns whether that is new."""
    if case.reader_suspects == suspects:
        return False
    case.result = {**(case.result or {"urgency": case.urgency}), "reader_suspects": suspects}
    _set_urgency(case)
    case.changed_at = at
    case.revision = (case.revision or 0) + 1
    return True


def _set_urgency(case: CaseRow) -> None:
    model: Urgency = case.result["urgency"]
    case.urgency = with_reader(model, suspects=case.reader_suspects)
    case.urgency_rank = list[str](URGENCIES).index(case.urgency)


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
