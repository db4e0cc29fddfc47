"""The critical loop: a finding that suggests acute leukaemia is told to a person, and the record shows who, when, and heard.

A call opens in the transaction in which the case becomes critical (the model) or in which a reader concludes acute leukaemia.
It never closes by itself, whatever later frames say: a person acknowledges it, then logs the call with read-back, or closes it
with a reason. One that was closed with a reason is followed by another where the model lets go of its suspicion and comes back
to it. Not acknowledged in time, it is escalated. Source: ISO 15189:2022, 7.4.1.3; CLSI GP47.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from broker_config.desk_messages import Alert
from clinician_dashboard.outbox import enqueue
from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.review.acting import Acting
from clinician_dashboard.review.conclusions import RECEIVERS, is_acute
from clinician_dashboard.review.errors import OutOfOrder, Unusable
from clinician_dashboard.review.settings import ReviewSettings
from clinician_dashboard.review.tables import CriticalCallRow

MAX_NOTE = 500
LATEST_CALL = timedelta(minutes=2)
"""A call may be said to have been made so much later than now: clocks differ."""

_STAFF_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,19}")


@dataclass(frozen=True)
class Call:
    """A call that was made.

    Attributes:
        told_role: A code of `RECEIVERS`.
        told_code: Of the member of staff who was told; never a name.
        at: When; now if none.
        read_back: Whether they read it back.
        note: Free text without patients' names, at most 500 characters.
    """

    told_role: str
    told_code: str
    read_back: bool
    at: datetime | None = None
    note: str = ""


def open_call(
    session: Session,
    case: CaseRow,
    *,
    cause: Literal["model", "reader"],
    at: datetime,
    settings: ReviewSettings,
    desk: str,
) -> CriticalCallRow:
    """Open an alert for a case."""
    row = CriticalCallRow(
        case_id=case.id,
        cause=cause,
        opened_at=at,
        due_at=at + timedelta(minutes=settings.acknowledge_minutes),
        read_back=False,
        note="",
        closed_how="",
    )
    session.add(row)
    tell(session, case, row, "open", at=at, desk=desk)
    return row


def tell(
    session: Session,
    case: CaseRow,
    row: CriticalCallRow,
    state: Literal["open", "acknowledged", "escalated", "closed"],
    *,
    at: datetime,
    desk: str,
) -> None:
    """Put what became of an alert into the outbox, for each microscope of the case."""
    for device in filter(None, (case.devices or "").split(", ")):
        message = Alert(
            case=case.code,
            site=case.site,
            device=device,
            state=state,
            cause=row.cause,
            opened_at=row.opened_at,
            due_at=row.due_at,
            simulated=bool(case.simulated),
            by=desk,
            at=at,
        )
        enqueue(session, message, site=case.site, device=device)


def acknowledge(act: Acting) -> None:
    """Say that somebody has seen the alert and sees to it.

    Raises:
        OutOfOrder: If the case is not critical, or it is acknowledged or closed.
    """
    row = act.facts.call
    if row is None and act.facts.suspected:  # from before there were alerts
        row = open_call(act.session, act.case, cause="model", at=act.at, settings=act.settings, desk=act.desk)
    if row is None:
        raise OutOfOrder("This case is not critical: there is nothing to acknowledge.")
    if row.closed_at is not None:
        raise OutOfOrder("This alert is closed.")
    if row.acknowledged_at is not None:
        raise OutOfOrder(f"{row.acknowledged_by} has acknowledged it already.")
    row.acknowledged_at, row.acknowledged_by = act.at, act.actor.name
    tell(act.session, act.case, row, "acknowledged", at=act.at, desk=act.desk)
    act.alerted = True
    act.changed("critical.acknowledge", after_s=round((act.at - row.opened_at).total_seconds()))


def log_call(act: Acting, call: Call) -> None:
    """Log the call that told a person, which closes the alert.

    Raises:
        OutOfOrder: If there is no open alert, or nobody has acknowledged it.
        Unusable: If it does not say to whom, when, or that it was read back.
    """
    row = _open(act)
    if row.acknowledged_at is None:
        raise OutOfOrder("Acknowledge the alert first.")
    if call.told_role not in RECEIVERS:
        raise Unusable("Say whom you told, by their role.")
    if not _STAFF_CODE.fullmatch(call.told_code):
        raise Unusable(
            "Give the code of the person you told: up to 20 letters, digits, '.', '_' and '-'. No names: a code."
        )
    if not call.read_back:
        raise Unusable(
            "Ask the person to read it back, and say so: without read-back the call does not count."
        )
    if len(call.note) > MAX_NOTE or "\x00" in call.note:
        raise Unusable(
            f"The note is too long, or holds NUL: at most {MAX_NOTE} characters. No patients' names."
        )
    when = call.at or act.at
    if not row.opened_at - LATEST_CALL <= when <= act.at + LATEST_CALL:
        raise Unusable("The call's time lies before the alert or in the future: check it. Times are in UTC.")
    row.called_at, row.called_by = when, act.actor.name
    row.told_role, row.told_code, row.read_back = call.told_role, call.told_code, True
    row.note = call.note.strip()
    _close(act, row, how="called")
    act.changed("critical.call", told_role=call.told_role, told_code=call.told_code, read_back=True)


def close(act: Acting, *, reason: str) -> None:
    """Close the alert without a call: a reader concluded that it is no acute leukaemia, and says why.

    Raises:
        OutOfOrder: If there is no open alert, or the person has not concluded so.
        Unusable: If no reason is given.
    """
    row = _open(act)
    own = act.facts.own(act.actor.name)
    if own is None or is_acute(own.conclusion):
        raise OutOfOrder(
            "Only a reader who has concluded that it is no acute leukaemia may close the alert without a call."
        )
    if not (3 <= len(reason.strip()) <= MAX_NOTE) or "\x00" in reason:  # noqa: PLR2004 - a word at least
        raise Unusable(f"Say why nobody needs to be called, in at most {MAX_NOTE} characters.")
    row.note = reason.strip()
    if row.acknowledged_at is None:
        row.acknowledged_at, row.acknowledged_by = act.at, act.actor.name
    _close(act, row, how="not_critical")
    act.changed("critical.close", reason=reason.strip())


def escalate(session: Session, *, at: datetime, desk: str) -> list[CaseRow]:
    """Escalate the alerts that nobody acknowledged in time; returns their cases."""
    late = session.execute(
        select(CriticalCallRow, CaseRow)
        .join(CaseRow, CaseRow.id == CriticalCallRow.case_id)
        .where(*_late(at))
    ).all()
    for row, case in late:
        row.escalated_at = at
        tell(session, case, row, "escalated", at=at, desk=desk)
    return [case for _row, case in late]


def any_late(session: Session, *, at: datetime) -> bool:
    """Return whether an alert waits to be escalated."""
    return session.scalar(select(CriticalCallRow.id).where(*_late(at)).limit(1)) is not None


@dataclass(frozen=True)
class OpenAlert:
    """An alert that is not closed, with its case."""

    row: CriticalCallRow
    case: CaseRow

    @property
    def state(self) -> str:
        """``escalated``, ``open`` or ``acknowledged``."""
        if self.row.acknowledged_at is not None:
            return "acknowledged"
        return "escalated" if self.row.escalated_at is not None else "open"


def open_alerts(session: Session, *, limit: int = 50) -> Sequence[OpenAlert]:
    """Return the alerts that are not closed: not acknowledged ones first, the oldest first."""
    rows = session.execute(
        select(CriticalCallRow, CaseRow)
        .join(CaseRow, CaseRow.id == CriticalCallRow.case_id)
        .where(CriticalCallRow.closed_at.is_(None))
        .order_by(CriticalCallRow.acknowledged_at.is_not(None), CriticalCallRow.opened_at)
        .limit(limit)
    )
    return [OpenAlert(row, case) for row, case in rows]


def count_open(session: Session) -> dict[str, int]:
    """Return how many alerts are open in each state."""
    rows = session.execute(
        select(
            CriticalCallRow.acknowledged_at.is_not(None),
            CriticalCallRow.escalated_at.is_not(None),
            func.count(),
        )
        .where(CriticalCallRow.closed_at.is_(None))
        .group_by(CriticalCallRow.acknowledged_at.is_not(None), CriticalCallRow.escalated_at.is_not(None))
    )
    found = {"open": 0, "acknowledged": 0, "escalated": 0}
    for acknowledged, escalated, number in rows:
        found["acknowledged" if acknowledged else "escalated" if escalated else "open"] += number
    return found


def closed_calls(session: Session, *, limit: int, offset: int = 0) -> Sequence[OpenAlert]:
    """Return closed alerts, the latest first."""
    rows = session.execute(
        select(CriticalCallRow, CaseRow)
        .join(CaseRow, CaseRow.id == CriticalCallRow.case_id)
        .where(CriticalCallRow.closed_at.is_not(None))
        .order_by(CriticalCallRow.closed_at.desc(), CriticalCallRow.id.desc())
        .limit(limit)
        .offset(offset)
    )
    return [OpenAlert(row, case) for row, case in rows]


def count_closed(session: Session) -> int:
    """Return how many alerts are closed."""
    return (
        session.scalar(
            select(func.count()).select_from(CriticalCallRow).where(CriticalCallRow.closed_at.is_not(None))
        )
        or 0
    )


def _late(at: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        CriticalCallRow.closed_at.is_(None),
        CriticalCallRow.acknowledged_at.is_(None),
        CriticalCallRow.escalated_at.is_(None),
        CriticalCallRow.due_at <= at,
    )


def _open(act: Acting) -> CriticalCallRow:
    row = act.facts.call
    if row is None or row.closed_at is not None:
        raise OutOfOrder("There is no open alert for this case.")
    return row


def _close(act: Acting, row: CriticalCallRow, *, how: str) -> None:
    row.closed_at, row.closed_by, row.closed_how = act.at, act.actor.name, how
    tell(act.session, act.case, row, "closed", at=act.at, desk=act.desk)
    act.alerted = True
