"""Reading blind first: the model's answer is hidden until the reader has given a first impression.

What is hidden: the case's result and urgency, each frame's class, reasons, probabilities and overlay, and reports made of
them. What is not: frames, their quality, and that a critical case waits to be read, since a study of readers may never
delay a call. Where an alert stood open, the impression says so (`OpinionRow.alerted`), so that a count can leave it out.
"""

from sqlalchemy import select
from sqlalchemy.orm import Session

from clinician_dashboard.access.roles import Actor
from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.review.facts import ReviewFacts
from clinician_dashboard.review.settings import ReviewSettings
from clinician_dashboard.review.tables import OpinionRow, ReaderRow, ReviewRow


def asked(site: str, *, settings: ReviewSettings) -> bool:
    """Return whether the laboratory asks every reader to read cases of a site blind first."""
    return settings.blind_first or site in settings.blind_sites


def is_hidden(*, reads: bool, wanted: bool, signed: bool, has_spoken: bool) -> bool:
    """Return whether the model's answer is hidden from somebody. Pure.

    Args:
        reads: Whether they may review cases at all; others see what the model says.
        wanted: Whether the laboratory or the reader asks for it.
        signed: Whether a version is signed; there is nothing left to be blind for.
        has_spoken: Whether they have given an impression or a conclusion.
    """
    return reads and wanted and not signed and not has_spoken


def wants(session: Session, actor: Actor) -> bool:
    """Return whether a reader chose to read blind first."""
    row = session.get(ReaderRow, actor.name)
    return row is not None and row.blind


def hidden_from(session: Session, facts: ReviewFacts, actor: Actor, *, settings: ReviewSettings) -> bool:
    """Return whether the model's answer for a case is hidden from ``actor`` now."""
    reads = actor.may("cases.review")
    return is_hidden(
        reads=reads,
        wanted=reads and (asked(facts.case.site, settings=settings) or wants(session, actor)),
        signed=facts.review.signed_version > 0,
        has_spoken=any(one.reader == actor.name for one in facts.of_round),
    )


def hidden_cases(
    session: Session, cases: list[CaseRow], actor: Actor, *, settings: ReviewSettings
) -> frozenset[int]:
    """Return the ids of those of ``cases`` whose answer is hidden from ``actor``: one or two queries a page."""
    if not actor.may("cases.review"):
        return frozenset()
    own = wants(session, actor)
    asked_for = [case.id for case in cases if own or asked(case.site, settings=settings)]
    if not asked_for:
        return frozenset()
    signed = set(
        session.scalars(
            select(ReviewRow.case_id).where(ReviewRow.case_id.in_(asked_for), ReviewRow.signed_version > 0)
        )
    )
    spoken = set(
        session.scalars(
            select(OpinionRow.case_id).where(
                OpinionRow.case_id.in_(asked_for), OpinionRow.reader == actor.name
            )
        )
    )
    return frozenset(set(asked_for) - signed - spoken)
