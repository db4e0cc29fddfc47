"""What new frames do to a review, in the transaction that records them: alerts open, and signed versions need an amendment."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import and_, inspect, or_, select
from sqlalchemy.orm import Session

from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.review import critical
from clinician_dashboard.review.acting import show
from clinician_dashboard.review.settings import ReviewSettings
from clinician_dashboard.review.tables import CriticalCallRow, ReviewRow


class ReviewFollower:
    """Follows the ingest.

    Args:
        settings: Of the review.
        name: This dashboard's name.
    """

    def __init__(self, *, settings: ReviewSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._alerted = False

    def __call__(self, session: Session, cases: Sequence[CaseRow], at: datetime) -> None:
        """Take in what a batch did to ``cases``; within the batch's transaction."""
        if not cases:
            return
        risen = [case for case in cases if case.model_urgency == "critical" and not _was_critical(case)]
        session.flush()
        ids = [case.id for case in cases]
        reviews = {
            row.case_id: row for row in session.scalars(select(ReviewRow).where(ReviewRow.case_id.in_(ids)))
        }
        suspected = [case for case in cases if case.model_urgency == "critical"]
        known: set[int] = set()
        if suspected:
            wanted = [case.id for case in suspected]
            # An alert that a reader closed as none says nothing of what the model finds now: neither a reader's alert, nor
            # the model's where the model has let go of its suspicion meanwhile.
            same = CriticalCallRow.case_id.not_in([case.id for case in risen])
            tells = or_(
                and_(CriticalCallRow.cause == "model", same), CriticalCallRow.closed_how != "not_critical"
            )
            known = set(
                session.scalars(
                    select(CriticalCallRow.case_id).where(CriticalCallRow.case_id.in_(wanted), tells)
                )
            )
        for case in suspected:
            if case.id not in known:
                critical.open_call(
                    session, case, cause="model", at=at, settings=self._settings, desk=self._name
                )
                self._alerted = True
        for case in cases:
            review = reviews.get(case.id)
            if review is None or not review.signed_version or review.amend_needed:
                continue
            if case.recorded > review.signed_frames:
                review.amend_needed = True
                review.revision += 1
                review.changed_at = at
                show(case, review, at=at)

    def take_alerted(self) -> bool:
        """Return whether an alert opened since this was last asked; asked after a commit."""
        alerted, self._alerted = self._alerted, False
        return alerted


def _was_critical(case: CaseRow) -> bool:
    """Return whether the model suspected acute leukaemia before what has changed since the last flush."""
    history = inspect(case).attrs.result.history
    before = history.deleted[0] if history.deleted else None if history.added else case.result
    return (before or {}).get("urgency") == "critical"
