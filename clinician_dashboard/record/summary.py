"""The figures of the whole record, counted over its tables."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from clinician_dashboard.record.tables import CaseRow, DiagnosisRow, FrameRow, RejectionRow, TallyRow

LATENCY_SAMPLE = 5000


def summarise(session: Session) -> dict[str, Any]:
    """Return what is in the record.

    ``referred`` counts recorded frames that the model leaves to a person.
    ``duplicates`` counts what a clinician would see twice, as the tables have it: rows beyond the first of one frame and
    model, and recorded frames whose very image the case already holds under another frame id. ``redelivered`` counts
    messages that came again and changed nothing: at-least-once delivery at work, and no fault.
    """
    frames = session.scalar(select(func.count()).select_from(FrameRow)) or 0
    recorded = session.scalar(select(func.count()).where(FrameRow.recorded_at.is_not(None))) or 0
    diagnoses = session.scalar(select(func.count()).where(DiagnosisRow.joined)) or 0
    pairs = session.scalar(
        select(func.count()).select_from(
            select(DiagnosisRow.frame_id, DiagnosisRow.weights_sha256)
            .where(DiagnosisRow.joined)
            .distinct()
            .subquery()
        )
    )
    images = session.scalar(
        select(func.count()).select_from(
            select(FrameRow.case_id, FrameRow.image_sha256)
            .where(FrameRow.recorded_at.is_not(None))
            .distinct()
            .subquery()
        )
    )
    refused = exists().where(RejectionRow.frame_id == FrameRow.frame_id)
    pending_frames = session.scalar(select(func.count()).where(FrameRow.recorded_at.is_(None), ~refused)) or 0
    pending_diagnoses = session.scalar(select(func.count()).where(DiagnosisRow.joined.is_(False))) or 0
    sums = session.execute(select(TallyRow.name, func.sum(TallyRow.count)).group_by(TallyRow.name))
    tallies = {name: int(number) for name, number in sums}
    times = session.execute(
        select(FrameRow.captured_at, FrameRow.recorded_at)
        .where(FrameRow.recorded_at.is_not(None))
        .order_by(FrameRow.recorded_at.desc())
        .limit(LATENCY_SAMPLE)
    ).all()
    last = session.scalar(select(DiagnosisRow).order_by(DiagnosisRow.id.desc()).limit(1))
    latencies = sorted(
        max(0.0, (end - start).total_seconds() * 1000) for start, end in times if end is not None
    )
    return {
        "cases": session.scalar(select(func.count()).select_from(CaseRow)) or 0,
        "frames": frames,
        "recorded": recorded,
        "referred": int(session.scalar(select(func.sum(CaseRow.referred))) or 0),
        "duplicates": diagnoses - (pairs or 0) + recorded - (images or 0),
        "redelivered": tallies.get("redelivered", 0),
        "pending": pending_frames + pending_diagnoses,
        "pending_frames": pending_frames,
        "pending_diagnoses": pending_diagnoses,
        "conflicts": tallies.get("conflict", 0),
        "malformed": tallies.get("malformed", 0),
        "latency_ms": {"p50": percentile(latencies, 0.5), "p99": percentile(latencies, 0.99)},
        "engine": last.model.get("engine") if last else None,
        "model": f"{last.model['name']} {last.model['version']}" if last else None,
        "simulated": session.scalar(select(CaseRow.id).where(CaseRow.simulated).limit(1)) is not None,
    }


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the value below which ``share`` of the sorted values lie (nearest rank), or none if there are none."""
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)
