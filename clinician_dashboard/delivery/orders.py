"""Orders to deliver: rows that are written within the transaction of what is to be told."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from clinician_dashboard.delivery.settings import TargetSettings
from clinician_dashboard.delivery.tables import DeliveryRow
from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.review.signed import SignedVersion
from clinician_dashboard.review.tables import ReviewRow

PRELIMINARY = 0
QUIET_AT_MOST = 10
"""A case that never is quiet is told of all the same, after so many times ``settle_s``."""


class Orders:
    """Writes what is to be delivered.

    Args:
        targets: The settings of each target, by its name.
    """

    def __init__(self, targets: Mapping[str, TargetSettings]) -> None:
        self._targets = targets

    def follow(self, session: Session, cases: Sequence[CaseRow], at: datetime) -> None:
        """Order the preliminary reports of cases that a batch changed; one row a case, of which the newest state counts."""
        wanting = {name: target for name, target in self._targets.items() if "preliminary" in target.send}
        read = {case.id: case for case in cases if case.recorded}
        if not wanting or not read:
            return
        session.flush()
        signed = set(
            session.scalars(
                select(ReviewRow.case_id).where(ReviewRow.case_id.in_(read), ReviewRow.signed_version > 0)
            )
        )
        known = {
            (row.target, row.case_id): row
            for row in session.scalars(
                select(DeliveryRow).where(DeliveryRow.case_id.in_(read), DeliveryRow.version == PRELIMINARY)
            )
        }
        for name, target in wanting.items():
            for case in read.values():
                if case.id not in signed:
                    self._order_preliminary(session, name, target, case, known.get((name, case.id)), at=at)

    def signed(self, session: Session, version: SignedVersion) -> None:
        """Order a signed version. What the model alone said of the case need not arrive any more."""
        for name, target in self._targets.items():
            session.execute(
                update(DeliveryRow)
                .where(
                    DeliveryRow.target == name,
                    DeliveryRow.case_id == version.case_id,
                    DeliveryRow.version == PRELIMINARY,
                    DeliveryRow.state != "sent",
                )
                .values(state="passed_over")
            )
            if version.status not in target.send:
                continue
            session.add(
                DeliveryRow(
                    target=name,
                    case_id=version.case_id,
                    site=version.site,
                    code=version.code,
                    version=version.version,
                    revision=0,
                    status=version.status,
                    state="waiting",
                    attempts=0,
                    created_at=version.signed_at,
                    due_at=version.signed_at,
                    fault="",
                )
            )

    def _order_preliminary(
        self,
        session: Session,
        name: str,
        target: TargetSettings,
        case: CaseRow,
        row: DeliveryRow | None,
        *,
        at: datetime,
    ) -> None:
        quiet = timedelta(seconds=target.settle_s)
        if row is None:
            row = DeliveryRow(
                target=name,
                case_id=case.id,
                site=case.site,
                code=case.code,
                version=PRELIMINARY,
                status="preliminary",
                attempts=0,
                created_at=at,
                due_at=at,
                fault="",
                state="sent",
            )
            session.add(row)
        if (
            row.state != "waiting"
        ):  # a new state of the case: what was wrong with the one before may be so no more
            row.state, row.attempts, row.fault, row.created_at = "waiting", 0, "", at
        row.revision = case.revision
        if not row.attempts:  # else it waits for the other side, and no longer for the case
            row.due_at = min(at + quiet, row.created_at + QUIET_AT_MOST * quiet)
