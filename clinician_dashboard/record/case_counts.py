"""How many cases a filter leaves: from the counts that are kept as cases change, or else counted up to a bound."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from clinician_dashboard.case_result import URGENCIES
from clinician_dashboard.record.case_conditions import CaseConditions
from clinician_dashboard.record.case_filter import STATUSES, is_of
from clinician_dashboard.record.desk_tables import CaseCountRow, DeviceCountRow

COUNTED_TO = 300


@dataclass(frozen=True)
class CaseCounts:
    """Cases by urgency.

    Attributes:
        by_urgency: Of each urgency; the filter's own does not restrict.
        capped: Urgencies of which there are more than `COUNTED_TO`, which is what ``by_urgency`` then says.
    """

    by_urgency: dict[str, int]
    capped: frozenset[str] = frozenset()

    def matching(self, urgency: str) -> int:
        """Return how many there are of one urgency, or of all if it is none."""
        return self.by_urgency[urgency] if urgency in URGENCIES else sum(self.by_urgency.values())

    def is_exact(self, urgency: str) -> bool:
        """Return whether `matching` is no lower bound."""
        return not (self.capped if urgency not in URGENCIES else self.capped & {urgency})


def sites_of(session: Session) -> tuple[list[str], bool]:
    """Return every site that has a case, and whether any case is simulated."""
    query = select(CaseCountRow.site, CaseCountRow.simulated).where(CaseCountRow.cases > 0).distinct()
    rows = session.execute(query).all()
    return sorted({row.site for row in rows}), any(row.simulated for row in rows)


def count_statuses(session: Session, *, site: str, device: str) -> dict[str, int]:
    """Return the number of cases of each of `STATUSES`, at a site and of a microscope if they are named."""
    kept = _kept(session, sites=[site] if site else None, device=device, leading="")
    return {status: sum(row.cases for row in kept if is_of(row.status, status)) for status in STATUSES}


def count_kept(session: Session, asked: CaseConditions) -> CaseCounts:
    """Return the exact numbers of a filter that is `CaseConditions.counted`; of another one, how many there are at the most."""
    kept = _kept(session, sites=asked.sites, device=asked.device, leading=asked.leading)
    status = asked.wanted.status
    return CaseCounts(
        {
            urgency: sum(
                row.cases
                for row in kept
                if row.urgency == urgency and (status not in STATUSES or is_of(row.status, status))
            )
            for urgency in URGENCIES
        }
    )


def count_walked(session: Session, asked: CaseConditions) -> CaseCounts:
    """Count along the order, up to `COUNTED_TO` of each urgency."""
    order, where = asked.order, asked.where()
    most = count_kept(session, asked).by_urgency
    found: dict[str, int] = dict.fromkeys(URGENCIES, 0)
    for urgency in (one for one in URGENCIES if most[one]):
        wanted = select(order.id).where(order.place.in_(asked.places(urgency)), where)
        counted = select(func.count()).select_from(wanted.limit(COUNTED_TO + 1).subquery())
        found[urgency] = session.scalar(counted) or 0
    capped = frozenset(urgency for urgency, number in found.items() if number > COUNTED_TO)
    return CaseCounts(found | dict.fromkeys(capped, COUNTED_TO), capped)


def _kept(session: Session, *, sites: Sequence[str] | None, device: str, leading: str) -> Sequence[Any]:
    table: Any = DeviceCountRow if device else CaseCountRow
    query = select(table.urgency, table.status, func.sum(table.cases).label("cases"))
    if device:
        query = query.where(table.device == device)
    if sites is not None:
        query = query.where(table.site.in_(sites))
    if leading:
        query = query.where(table.leading == leading)
    return session.execute(query.group_by(table.urgency, table.status)).all()


__all__ = ["COUNTED_TO", "CaseCounts", "count_kept", "count_statuses", "count_walked", "sites_of"]
