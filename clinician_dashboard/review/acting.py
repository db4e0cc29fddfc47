"""One act of one person on one case, within its transaction: what every act checks first and leaves behind."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from clinician_dashboard.access.roles import Actor, Permission
from clinician_dashboard.audit import append
from clinician_dashboard.record.case_summary import note_suspicion
from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.review import facts
from clinician_dashboard.review.errors import NotAllowed, OutOfDate
from clinician_dashboard.review.facts import ReviewFacts
from clinician_dashboard.review.opinions import suspects_acute
from clinician_dashboard.review.settings import ReviewSettings
from clinician_dashboard.review.tables import ReviewRow

_WHAT: dict[str, str] = {
    "cases.review": "review cases",
    "cases.sign": "sign cases",
    "cases.read": "see cases",
}


@dataclass
class Acting:
    """An act.

    Attributes:
        session: Within `Record.transaction`.
        actor: Who acts.
        facts: The case, as it was when the transaction began.
        at: Now.
        settings: Of the review.
        desk: This dashboard's name, for messages that go out.
        alerted: Whether a critical alert changed.
    """

    session: Session
    actor: Actor
    facts: ReviewFacts
    at: datetime
    settings: ReviewSettings
    desk: str
    alerted: bool = field(default=False)

    @property
    def case(self) -> CaseRow:
        """The case's row."""
        return self.facts.case

    @property
    def review(self) -> ReviewRow:
        """The review's row."""
        return self.facts.review

    def expect(self, revision: int | None) -> None:
        """Make sure that the page on which the person acted shows the present state; see `expect`."""
        expect(self.facts, revision)

    def changed(self, action: str, **details: Any) -> None:
        """Count the review's revision up, and write the act into the audit."""
        self.keep()
        self.review.revision += 1
        self.review.changed_at = self.at
        self.note(action, **details)

    def keep(self) -> None:
        """Put the review into the record, if it is new."""
        if self.review not in self.session:
            self.session.add(self.review)

    def note(self, action: str, **details: Any) -> None:
        """Write an act into the audit."""
        append(
            self.session,
            actor=self.actor,
            action=action,
            subject=facts.subject(self.case),
            at=self.at,
            **details,
        )

    def prolong(self) -> None:
        """Let the reader's claim last longer: they are at work on the case."""
        if self.facts.holds(self.actor.name, at=self.at):
            self.review.claim_expires_at = self.at + timedelta(minutes=self.settings.claim_minutes)

    def mirror(self) -> bool:
        """Bring the case in step with its review: its status, and its urgency; returns whether the urgency's cause changed."""
        show(self.case, self.review, at=self.at)
        self.session.flush()
        said = facts.opinions_of(self.session, self.case.id, round_=self.review.signed_version + 1)
        suspects = suspects_acute(facts.readings(said), signed=self.review.signed_conclusion)
        return note_suspicion(self.case, suspects=suspects, at=self.at)


def expect(found: ReviewFacts, revision: int | None) -> None:
    """Make sure that a page shows the present state of a case.

    Args:
        found: The case.
        revision: The review's revision that the page showed; none from a client that does not say.

    Raises:
        OutOfDate: If something was done since.
    """
    if revision is not None and revision != found.review.revision:
        raise OutOfDate(
            "Somebody acted on this case since your page was made, so nothing was saved. Look at what changed, then do it "
            "again; what you wrote is still in the form.",
            revision=found.review.revision,
        )


def show(case: CaseRow, review: ReviewRow, *, at: datetime) -> None:
    """Bring the worklist's columns of a case in step with its review."""
    held = (
        review.claimed_by is not None and review.claim_expires_at is not None and at < review.claim_expires_at
    )
    if review.amend_needed:
        status = "amend"
    elif held:
        status = "claimed"
    else:
        status = "signed" if review.signed_version else "unclaimed"
    if hasattr(CaseRow, "status"):
        case.status = status
        case.claimed_by = review.claimed_by if held else None
        case.signed_at = review.signed_at


def allowed(actor: Actor, permission: Permission) -> None:
    """Make sure that a person may do something at all.

    Raises:
        NotAllowed: If their role does not hold the permission.
    """
    if not actor.may(permission):
        what = _WHAT.get(permission, permission)
        raise NotAllowed(f"Your role ({actor.role.replace('_', ' ')}) may not {what}.")
