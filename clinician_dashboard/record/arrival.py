"""The worklist of who reads blind: stat first, then the longest wait; nothing of what the model says moves a case in it.

A case's place holds its urgency and whether it is stat. Walking the places of all urgencies side by side, and merging them by
their time, takes the urgency out again, along the same index and without a column of its own.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import ColumnElement, func, literal, select, tuple_
from sqlalchemy.orm import Session

from clinician_dashboard.case_result import URGENCIES
from clinician_dashboard.record.desk_tables import CaseCountRow
from clinician_dashboard.record.tables import CaseRow, UtcTime
from clinician_dashboard.record.worklist import STATUSES, CaseFilter, Key, Worklist, condition, is_of
from clinician_dashboard.record.writing import SIGNED_FROM

COUNTED_TO = 1000
_GROUPS = 4
"""Stat, the others; the same of what is signed."""

_Line = tuple[datetime, int]


def read_by_arrival(
    session: Session,
    wanted: CaseFilter,
    *,
    limit: int,
    offset: int = 0,
    after: Key | None = None,
    before: Key | None = None,
) -> Worklist:
    """Return one page in the order of arrival; see `read_worklist` for the arguments.

    The filter's urgency is passed over, a class is not searched for, and ``by_urgency`` is empty: each would tell.
    """
    counts = session.execute(select(CaseCountRow).where(CaseCountRow.cases > 0)).scalars().all()
    sites = sorted({row.site for row in counts})
    wanted = replace(wanted, urgency="")
    where = condition(session, wanted, sites=sites)
    page = list(_walk(session, where, most=offset + limit + 1, after=after, before=before))
    if before is not None:
        page.reverse()
        shown, more = page[-limit:], len(page) > limit
    else:
        shown, more = page[offset : offset + limit], len(page) > offset + limit
    found = select(CaseRow).where(CaseRow.id.in_([key.case_id for key in shown]))
    rows = {row.id: row for row in session.scalars(found)}
    total = session.scalar(
        select(func.count()).select_from(select(CaseRow.id).where(where).limit(COUNTED_TO + 1).subquery())
    )
    at_site = [row for row in counts if wanted.site in ("", row.site)]
    return Worklist(
        cases=[rows[key.case_id] for key in shown],
        matching=min(total or 0, COUNTED_TO),
        exact=(total or 0) <= COUNTED_TO,
        by_urgency={},
        by_status={
            status: sum(row.cases for row in at_site if is_of(row.status, status)) for status in STATUSES
        },
        simulated=any(row.simulated for row in counts),
        previous=shown[0] if shown and (more if before else after is not None or offset > 0) else None,
        following=shown[-1] if shown and (more or before is not None) else None,
        sites=sites,
    )


def _walk(
    session: Session, where: ColumnElement[bool], *, most: int, after: Key | None, before: Key | None
) -> Iterator[Key]:
    """Yield up to ``most`` keys of the order of arrival: from ``after`` on, or from ``before`` backwards."""
    edge = before or after
    backwards = before is not None
    groups = range(_GROUPS)
    for group in reversed(groups) if backwards else groups:
        if edge is not None and (group > edge.place if backwards else group < edge.place):
            continue
        here = edge if edge is not None and group == edge.place else None
        runs = [
            _run(session, where, place, most=most, here=here, backwards=backwards) for place in _places(group)
        ]
        for opened_at, case_id in heapq.merge(*runs, reverse=backwards):
            yield Key(group, opened_at, case_id)
            most -= 1
            if not most:
                return


def _places(group: int) -> range:
    first = (SIGNED_FROM if group > 1 else 0) + group % 2
    return range(first, first + 2 * len(URGENCIES), 2)


def _run(
    session: Session,
    where: ColumnElement[bool],
    place: int,
    *,
    most: int,
    here: Key | None,
    backwards: bool,
) -> Sequence[_Line]:
    order = (CaseRow.opened_at, CaseRow.id)
    query = select(*order).where(CaseRow.place == place, where)
    if here is not None:
        edge = tuple_(literal(here.opened_at, UtcTime()), literal(here.case_id))
        query = query.where(tuple_(*order) < edge if backwards else tuple_(*order) > edge)
    query = query.order_by(*(column.desc() if backwards else column for column in order)).limit(most)
    return [(row.opened_at, row.id) for row in session.execute(query)]
