"""Sums by day, kept as diagnoses are recorded and readings are given, so that no page walks a million rows for a rate."""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from clinician_dashboard.record.case_summary import weight_of
from clinician_dashboard.record.desk_tables import DayRow, ModelRow, ReadingDayRow
from clinician_dashboard.record.tables import DiagnosisRow, FrameRow
from clinician_dashboard.record.upsert import upsert

_KEY = ("day", "site", "device", "weights_sha256")
_SUMS = (
    *("frames", "referred", "unlike", "top_sum", "top_squares", "ood_sum", "ood_squares"),
    *("quality_sum", "quality_squares"),
)
_READ_SUMS = ("read", "overridden")
_LARGEST = 1e6
"""Of a score as a share of its limit: one absurd value must not swallow a day."""

Key = tuple[str, str, str, str]


class DaySums:
    """What one batch adds to the days."""

    def __init__(self) -> None:
        self._days: dict[Key, dict[str, float]] = {}
        self._models: dict[str, DiagnosisRow] = {}

    def add(self, frame: FrameRow, diagnosis: DiagnosisRow, *, weight: float, at: datetime) -> None:
        """Add a diagnosis that was joined with its frame.

        Args:
            frame: The frame.
            diagnosis: The diagnosis.
            weight: The frame's, from its quality.
            at: When it was recorded, by this machine's clock.
        """
        weights = diagnosis.weights_sha256
        self._models.setdefault(weights, diagnosis)
        key = (day_of(at), frame.site, frame.device, weights)
        sums = self._days.setdefault(key, dict.fromkeys(_SUMS, 0))
        top = float(max(diagnosis.probabilities.values(), default=0.0))
        share = share_of_limit(diagnosis.ood_score, diagnosis.ood_threshold)
        sums["frames"] += 1
        sums["referred"] += diagnosis.decision != "report"
        sums["unlike"] += diagnosis.ood_score > diagnosis.ood_threshold
        for name, value in (("top", top), ("ood", share), ("quality", weight)):
            sums[f"{name}_sum"] += value
            sums[f"{name}_squares"] += value * value

    def write(self, session: Session, *, at: datetime) -> None:
        """Add all of it to the record, within the batch's transaction."""
        if not self._days:
            return
        add_sums(session, DayRow, self._days, _SUMS)
        known = set(
            session.scalars(select(ModelRow.weights_sha256).where(ModelRow.weights_sha256.in_(self._models)))
        )
        for weights, diagnosis in self._models.items():
            if weights not in known:
                session.add(
                    ModelRow(
                        weights_sha256=weights,
                        name=diagnosis.model["name"],
                        version=diagnosis.model["version"],
                        simulated=diagnosis.simulated,
                        first_at=at,
                        reason="",
                    )
                )


def add_reading(
    session: Session, *, at: datetime, site: str, devices: str, weights: Iterable[str], overridden: bool
) -> None:
    """Count a first reading of a case that the model had answered for.

    Args:
        session: Within `Record.transaction`.
        at: When it was given.
        site: The case's.
        devices: The case's, as its row has them.
        weights: Of the models that read its frames.
        overridden: Whether the reader came to another conclusion than the model.
    """
    models = sorted(set(weights))
    key = (
        day_of(at),
        site,
        devices if devices and ", " not in devices else "",
        models[0] if len(models) == 1 else "",
    )
    add_sums(session, ReadingDayRow, {key: {"read": 1, "overridden": int(overridden)}}, _READ_SUMS)


def add_sums(
    session: Session,
    table: type[DayRow | ReadingDayRow],
    rows: Mapping[Key, Mapping[str, float]],
    names: Iterable[str],
) -> None:
    """Add ``rows`` to what the table holds under the same keys."""
    upsert(
        session.connection(),
        table,
        [{**dict(zip(_KEY, key, strict=True)), **rows[key]} for key in sorted(rows)],
        adding=names,
    )


def recount_days(session: Session) -> None:
    """Compute the sums from every diagnosis anew, each on the day on which its frame was recorded."""
    session.execute(delete(DayRow))
    sums = DaySums()
    answers = session.execute(
        select(FrameRow, DiagnosisRow)
        .join(DiagnosisRow, DiagnosisRow.frame_id == FrameRow.frame_id)
        .where(DiagnosisRow.joined)
        .execution_options(yield_per=1000)
    )
    for frame, diagnosis in answers:
        sums.add(frame, diagnosis, weight=weight_of(frame), at=frame.recorded_at or frame.received_at)
        session.expunge(frame)
        session.expunge(diagnosis)
    first = session.execute(select(FrameRow.received_at).order_by(FrameRow.received_at).limit(1)).scalar()
    if first is not None:
        sums.write(session, at=first)


def day_of(moment: datetime) -> str:
    """Return a moment's day in UTC, such as ``2026-11-23``."""
    return moment.astimezone(UTC).date().isoformat()


def share_of_limit(score: float, limit: float) -> float:
    """Return an out-of-distribution score as a share of its limit: above 1 the frame is unlike the training images."""
    share = score / limit if limit > 0 else score
    return min(_LARGEST, max(-_LARGEST, share)) if math.isfinite(share) else 0.0
