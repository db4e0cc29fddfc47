"""Claiming a case, so that two people do not read the same one unknowingly, and cannot both sign it."""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.review.acting import Acting, show
from clinician_dashboard.review.errors import HeldByAnother, NotAllowed, OutOfOrder, Unusable
from clinician_dashboard.review.tables import ReviewRow

LEAST_REASON = 3


def claim(act: Acting) -> None:
    """Give the case to the person, for as long as the settings say from their last act on it.

    Raises:
        HeldByAnother: If somebody else has it.
    """
    review = act.review
    if not act.facts.free(at=act.at) and review.claimed_by != act.actor.name:
        raise HeldByAnother(
            f"{review.claimed_name or review.claimed_by} has this case. Wait until it is given back, or let the lab lead take "
            "it over."
        )
    _give(act)
    act.changed("case.claim", until=_until(review))


def release(act: Acting) -> None:
    """Give the case back.

    Raises:
        OutOfOrder: If the person does not have it.
    """
    if not act.facts.holds(act.actor.name, at=act.at):
        raise OutOfOrder("The case is not yours, so there is nothing to give back.")
    _free(act.review)
    act.changed("case.release")


def take_over(act: Acting, *, reason: str) -> None:
    """Take the case from whoever has it. Only the lab lead may, and says why.

    Raises:
        NotAllowed: If the person is not the lab lead.
        OutOfOrder: If nobody else has it.
        Unusable: If no reason is given.
    """
    if act.actor.role != "lab_lead":
        raise NotAllowed("Only the lab lead may take a case over.")
    review = act.review
    if act.facts.free(at=act.at) or review.claimed_by == act.actor.name:
        raise OutOfOrder("Nobody else has this case: claim it.")
    if len(reason.strip()) < LEAST_REASON:
        raise Unusable("Say why you take the case over: the reader will see it.")
    before = review.claimed_by
    _give(act)
    act.changed("case.take_over", taken_from=before, reason=reason.strip())


def over(at: datetime) -> tuple[ColumnElement[bool], ...]:
    """Return the condition of a claim whose time is over."""
    return ReviewRow.claimed_by.is_not(None), ReviewRow.claim_expires_at <= at


def expire(session: Session, *, at: datetime) -> list[CaseRow]:
    """End the claims whose time is over; returns their cases."""
    ended = session.execute(
        select(ReviewRow, CaseRow).join(CaseRow, CaseRow.id == ReviewRow.case_id).where(*over(at))
    ).all()
    for review, case in ended:
        _free(review)
        review.revision += 1
        review.changed_at = at
        show(case, review, at=at)
    return [case for _review, case in ended]


def _give(act: Acting) -> None:
    review = act.review
    review.claimed_by = act.actor.name
    review.claimed_name = act.actor.full_name or act.actor.name
    review.claimed_at = act.at
    review.claim_expires_at = act.at + timedelta(minutes=act.settings.claim_minutes)


def _free(review: ReviewRow) -> None:
    review.claimed_by = review.claimed_name = review.claimed_at = review.claim_expires_at = None


def _until(review: ReviewRow) -> str:
    return review.claim_expires_at.isoformat(timespec="seconds") if review.claim_expires_at else ""


end_claim = _free
