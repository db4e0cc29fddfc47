"""The clock of the review: alerts that nobody acknowledged are escalated, claims whose time is over end."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import exists, select
from sqlalchemy.exc import SQLAlchemyError

from broker_config.messages import now
from clinician_dashboard.record.case_summary import note_suspicion
from clinician_dashboard.record.database import Record
from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.review import claims, critical
from clinician_dashboard.review.conclusions import CONCLUSIONS
from clinician_dashboard.review.facts import opinions_of, readings
from clinician_dashboard.review.opinions import suspects_acute
from clinician_dashboard.review.settings import ReviewSettings
from clinician_dashboard.review.tables import CriticalCallRow, OpinionRow, ReviewRow

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
FRESH = timedelta(days=2)
"""A critical case that changed so lately, and has no alert yet (its record is from before there were any), gets one."""


class ReviewWatch:
    """One thread that looks at the clock.

    Args:
        record: The open record.
        settings: Of the review.
        name: This dashboard's name, for messages that go out.
        on_change: Called after a commit with site, code, and whether a critical alert changed.
        on_escalated: Called once for each alert that was escalated.
        clock: Returns the present time in UTC.
    """

    def __init__(
        self,
        record: Record,
        *,
        settings: ReviewSettings,
        name: str,
        on_change: Callable[[str, str, bool], None],
        on_escalated: Callable[[], None],
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._record = record
        self._settings = settings
        self._name = name
        self._on_change = on_change
        self._on_escalated = on_escalated
        self._clock = clock
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._caught_up = False

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._run, name="review-watch", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """End."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def look(self) -> None:
        """Look once: escalate, and end claims."""
        at = self._clock()
        if not self._caught_up:
            self._catch_up(at)
            self._caught_up = True
        with self._record.session() as session:
            late = critical.any_late(session, at=at)
            over = session.scalar(select(ReviewRow.case_id).where(*claims.over(at)).limit(1)) is not None
        if not late and not over:
            return
        with self._record.transaction() as session:
            escalated = critical.escalate(session, at=at, desk=self._name)
            ended = claims.expire(session, at=at)
        for case in escalated:
            logger.warning(
                "a critical case of %s was not acknowledged in time and is escalated to the lab lead",
                case.site,
            )
            self._on_escalated()
            self._on_change(case.site, case.code, True)
        for case in ended:
            self._on_change(case.site, case.code, False)

    def _catch_up(self, at: datetime) -> None:
        self._catch_up_readers(at)
        fresh = (
            select(CaseRow)
            .outerjoin(CriticalCallRow, CriticalCallRow.case_id == CaseRow.id)
            .where(
                CaseRow.urgency == "critical", CaseRow.changed_at >= at - FRESH, CriticalCallRow.id.is_(None)
            )
        )
        with self._record.session() as session:
            if session.scalar(fresh.limit(1)) is None:
                return
        with self._record.transaction() as session:
            for case in session.scalars(fresh).all():
                critical.open_call(
                    session,
                    case,
                    cause="reader" if case.raised_by_reader else "model",
                    at=at,
                    settings=self._settings,
                    desk=self._name,
                )

    def _catch_up_readers(self, at: datetime) -> None:
        """Move the cases of which a reader said acute leukaemia to an earlier release, which left them in the model's place."""
        acute = [code for code, one in CONCLUSIONS.items() if one.acute]
        spoken = exists().where(
            OpinionRow.case_id == ReviewRow.case_id,
            OpinionRow.round == ReviewRow.signed_version + 1,
            OpinionRow.conclusion.in_(acute),
        )
        said = (
            select(CaseRow, ReviewRow)
            .join(ReviewRow, ReviewRow.case_id == CaseRow.id)
            .where(CaseRow.urgency != "critical", spoken)
        )
        with self._record.session() as session:
            if session.execute(said.limit(1)).first() is None:
                return
        with self._record.transaction() as session:
            for case, review in session.execute(said).all():
                rows = opinions_of(session, case.id, round_=review.signed_version + 1)
                suspects = suspects_acute(readings(rows), signed=review.signed_conclusion)
                note_suspicion(case, suspects=suspects, at=at)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_S):
            try:
                self.look()
            except SQLAlchemyError as error:
                logger.warning("the review's clock could not look at the record, trying again: %s", error)
            except Exception:
                logger.exception("the review's clock failed, trying again")
