"""Tells other subscribers of a case's combined result: one message in the outbox for each case that a batch changed."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete
from sqlalchemy.orm import Session

from broker_config.desk_messages import CaseUpdate
from clinician_dashboard.outbox.tables import OutboxRow
from clinician_dashboard.record.tables import CaseRow


class CaseUpdates:
    """Follows the ingest; what has not gone out yet of a case is replaced, so that a flood leaves its last word.

    Args:
        name: This dashboard's name.
    """

    def __init__(self, *, name: str) -> None:
        self._name = name

    def __call__(self, session: Session, cases: Sequence[CaseRow], at: datetime) -> None:
        """Put the results of ``cases`` into the outbox, within the transaction that changed them."""
        rows = [case for case in cases if case.recorded]
        if not rows:
            return
        session.execute(delete(OutboxRow).where(OutboxRow.key.in_([key_of(case) for case in rows])))
        for case in rows:
            message = update_of(case, by=self._name)
            session.add(
                OutboxRow(
                    kind=message.kind,
                    site=message.site,
                    device=message.device,
                    key=key_of(case),
                    payload=message.model_dump_json(),
                    created_at=at,
                )
            )


def key_of(case: CaseRow) -> str:
    """Return what a case's message is known by in the outbox."""
    return f"case:{case.site}/{case.code}"


def update_of(case: CaseRow, *, by: str) -> CaseUpdate:
    """Return what is told of a case.

    Args:
        case: Its row, as just computed.
        by: This dashboard's name.
    """
    result = case.result
    return CaseUpdate(
        case=case.code,
        site=case.site,
        device=case.devices.split(", ")[0],
        revision=case.revision,
        decision=case.decision,
        urgency=case.urgency,
        raised_by_reader=case.raised_by_reader,
        leading=case.leading,
        shares=result["shares"],
        counted=result["counted"],
        referred=case.referred,
        stopped=result["stopped"],
        waiting=case.waiting,
        reasons=tuple(result["reasons"]),
        opened_at=case.opened_at,
        changed_at=case.changed_at,
        simulated=case.simulated,
        by=by,
    )
