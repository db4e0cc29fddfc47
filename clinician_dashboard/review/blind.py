"""Reading blind first: the model's answer is hidden until the reader has given a first impression.

What is hidden: the case's result and urgency, each frame's class, reasons, probabilities and overlay, reports made of them,
and its place: the worklist of a blind reader is in the order of arrival, stat first. What is not: frames, their quality, and
that somebody waits, since a study of readers may never delay a call. An alert is told to a blind reader at once, without its
case; one act names it, and one that was escalated is named to everybody. Where an alert stood open, the impression says so
(`OpinionRow.alerted`), so that a count can leave it out.

A blind reader is alone with the case until they have concluded: that another reader has raised it is kept from them too.
"""

from sqlalchemy import select
from sqlalchemy.orm import Session

from clinician_dashboard.access.roles import Actor
from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.review.conclusions import is_acute
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
    spoken = select(OpinionRow.case_id).where(
        OpinionRow.case_id.in_(asked_for), OpinionRow.reader == actor.name
    )
    return frozenset(asked_for) - _signed(session, asked_for) - set(session.scalars(spoken))


def alone_cases(
    session: Session, cases: list[CaseRow], actor: Actor, *, settings: ReviewSettings
) -> frozenset[int]:
    """Return the ids of those of ``cases`` of which other readers' suspicion is kept from ``actor``.

    They read blind, have not concluded, and have not suspected acute leukaemia themselves.
    """
    if not actor.may("cases.review"):
        return frozenset()
    own = wants(session, actor)
    asked_for = [
        case.id for case in cases if case.reader_suspects and (own or asked(case.site, settings=settings))
    ]
    if not asked_for:
        return frozenset()
    said = session.execute(
        select(OpinionRow.case_id, OpinionRow.stage, OpinionRow.conclusion).where(
            OpinionRow.case_id.in_(asked_for), OpinionRow.reader == actor.name
        )
    )
    settled = {case_id for case_id, stage, word in said if stage != "impression" or is_acute(word)}
    return frozenset(asked_for) - _signed(session, asked_for) - settled


def by_arrival(session: Session, site: str, actor: Actor, *, settings: ReviewSettings) -> bool:
    """Return whether the worklist of ``actor`` must not be in the order of what the model says.

    Args:
        session: An open session.
        site: The only site of the list; empty for all.
        actor: Who looks.
        settings: Of the review.
    """
    if not actor.may("cases.review"):
        return False
    asks = asked(site, settings=settings) if site else settings.blind_first or bool(settings.blind_sites)
    return asks or wants(session, actor)


def _signed(session: Session, case_ids: list[int]) -> set[int]:
    return set(
        session.scalars(
            select(ReviewRow.case_id).where(ReviewRow.case_id.in_(case_ids), ReviewRow.signed_version > 0)
        )
    )
