"""The worklist of who reads blind: stat first, then the longest wait; nothing of what the model says moves a case in it.

A case's place holds its urgency and whether it is stat. Walking the places of all urgencies side by side, and merging them by
their time, takes the urgency out again, along the same index and without a column of its own.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import func, literal, select, tuple_
from sqlalchemy.orm import Session

from clinician_dashboard.record.case_conditions import BY_DEVICE, CaseConditions
from clinician_dashboard.record.case_counts import count_kept, count_statuses, sites_of
from clinician_dashboard.record.case_filter import CaseFilter
from clinician_dashboard.record.few_cases import find_few
from clinician_dashboard.record.tables import CaseRow, UtcTime
from clinician_dashboard.record.worklist import Key, Worklist, cut
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
    sites, simulated = sites_of(session)
    asked = CaseConditions(session, replace(wanted, urgency=""), sites=sites, classes=False)
    few = None if asked.order is BY_DEVICE else find_few(session, asked)
    if few is not None:
        keys = sorted(Key(_group(row.place), row.opened_at, row.id) for row in few)
        page = cut(keys, limit=limit, offset=offset, after=after, before=before)
        total, exact = len(few), True
    else:
        page = _walk(session, asked, most=offset + limit + 1, after=after, before=before)
        page = page[::-1] if before is not None else page[offset:]
        total, exact = _count(session, asked)
    shown, more = page[:limit] if before is None else page[-limit:], len(page) > limit
    found = select(CaseRow).where(CaseRow.id.in_([key.case_id for key in shown]))
    rows = {row.id: row for row in session.scalars(found)}
    return Worklist(
        cases=[rows[key.case_id] for key in shown],
        matching=total,
        exact=exact,
        by_urgency={},
        capped=frozenset(),
        by_status=count_statuses(session, site=wanted.site, device=wanted.device),
        simulated=simulated,
        previous=shown[0] if shown and (more if before else after is not None or offset > 0) else None,
        following=shown[-1] if shown and (more or before is not None) else None,
        sites=sites,
    )


def _count(session: Session, asked: CaseConditions) -> tuple[int, bool]:
    """Return how many cases are wanted, at least, and whether that is all of them."""
    if asked.counted:
        return count_kept(session, asked).matching(""), True
    every = select(asked.order.id).where(asked.order.place.in_(asked.places("")), asked.where())
    total = session.scalar(select(func.count()).select_from(every.limit(COUNTED_TO + 1).subquery())) or 0
    return min(total, COUNTED_TO), total <= COUNTED_TO


def _walk(
    session: Session, asked: CaseConditions, *, most: int, after: Key | None, before: Key | None
) -> list[Key]:
    """Return up to ``most`` keys of the order of arrival: from ``after`` on, or from ``before`` backwards."""
    edge, backwards = before or after, before is not None
    keys: list[Key] = []
    for group in reversed(range(_GROUPS)) if backwards else range(_GROUPS):
        if edge is not None and (group > edge.place if backwards else group < edge.place):
            continue
        here = edge if edge is not None and group == edge.place else None
        keys += _of_group(session, asked, group, most=most - len(keys), here=here, backwards=backwards)
        if len(keys) == most:
            break
    return keys


def _of_group(
    session: Session, asked: CaseConditions, group: int, *, most: int, here: Key | None, backwards: bool
) -> Iterator[Key]:
    places = [place for place in asked.places("") if _group(place) == group]
    runs = [_run(session, asked, place, most=most, here=here, backwards=backwards) for place in places]
    for _, (opened_at, case_id) in zip(range(most), heapq.merge(*runs, reverse=backwards), strict=False):
        yield Key(group, opened_at, case_id)


def _group(place: int) -> int:
    return place % 2 + (2 if place >= SIGNED_FROM else 0)


def _run(
    session: Session, asked: CaseConditions, place: int, *, most: int, here: Key | None, backwards: bool
) -> Sequence[_Line]:
    order: tuple[Any, ...] = (asked.order.opened_at, asked.order.id)
    query = select(*order).where(asked.order.place == place, asked.where())
    if here is not None:
        edge = tuple_(literal(here.opened_at, UtcTime()), literal(here.case_id))
        query = query.where(tuple_(*order) < edge if backwards else tuple_(*order) > edge)
    query = query.order_by(*(column.desc() if backwards else column for column in order)).limit(most)
    return [(opened_at, case_id) for opened_at, case_id in session.execute(query)]
