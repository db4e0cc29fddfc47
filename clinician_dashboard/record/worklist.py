"""The worklist: filtered, searched, counted and read a page at a time, in the same time however many cases there are.

Two ways lead to a page, with the same answers. Where all that is asked stands in an index that begins with the order (of all
cases, or of one microscope's), it is walked from where the page begins until the page is full. Where a part of the filter alone
leaves few cases (a part of a code, a small site, my own), those are read instead and the rest is done here; if it leaves many,
the index of all cases is walked all the same.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import and_, literal, select, tuple_
from sqlalchemy.orm import Session

from clinician_dashboard.case_result import URGENCIES
from clinician_dashboard.record.case_conditions import BY_DEVICE, CaseConditions
from clinician_dashboard.record.case_counts import (
    CaseCounts,
    count_kept,
    count_statuses,
    count_walked,
    sites_of,
)
from clinician_dashboard.record.case_filter import CaseFilter
from clinician_dashboard.record.few_cases import find_few
from clinician_dashboard.record.tables import CaseRow, UtcTime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEY = re.compile(r"(\d{1,2})\.(-?\d{1,18})\.(\d{1,9})", re.ASCII)


@dataclass(frozen=True, order=True)
class Key:
    """A case's place in the order of the worklist: a page begins after one, or ends before one."""

    place: int
    opened_at: datetime
    case_id: int

    def __str__(self) -> str:
        return f"{self.place}.{(self.opened_at - _EPOCH) // timedelta(microseconds=1)}.{self.case_id}"


def key_of(text: str) -> Key | None:
    """Return the key that a page's address holds; none if it holds none."""
    found = _KEY.fullmatch(text)
    if found is None:
        return None
    try:
        return Key(int(found[1]), _EPOCH + timedelta(microseconds=int(found[2])), int(found[3]))
    except OverflowError:
        return None


@dataclass(frozen=True)
class Worklist:
    """A page of cases.

    Attributes:
        cases: By urgency, stat before routine, then the oldest first; what is signed behind.
        matching: How many cases match, at least.
        exact: Whether ``matching`` is no lower bound.
        by_urgency: Cases of each urgency that match everything but the urgency, up to a bound.
        capped: Urgencies of which more cases match than ``by_urgency`` says.
        by_status: Cases of each status at the wanted site, of the wanted microscope.
        simulated: Whether any case of the record is simulated.
        previous: Where the page before ends; none on the first page.
        following: Where the page after begins; none on the last page.
        sites: Every site that has a case.
    """

    cases: Sequence[CaseRow]
    matching: int
    exact: bool
    by_urgency: dict[str, int]
    capped: frozenset[str]
    by_status: dict[str, int]
    simulated: bool
    previous: Key | None
    following: Key | None
    sites: Sequence[str]


def read_worklist(
    session: Session,
    wanted: CaseFilter,
    *,
    limit: int,
    offset: int = 0,
    after: Key | None = None,
    before: Key | None = None,
) -> Worklist:
    """Return one page.

    Args:
        session: An open session, best a snapshot.
        wanted: The filter.
        limit: Most cases of the page.
        offset: Cases to pass over, from ``after`` or from the beginning.
        after: The page begins behind this case.
        before: The page ends before this case; goes before ``after``.
    """
    sites, simulated = sites_of(session)
    asked = CaseConditions(session, wanted, sites=sites)
    few = None if asked.order is BY_DEVICE else find_few(session, asked)
    page: Sequence[Key]
    if few is not None:
        counts = _count_few(few)
        page = _pick(few, wanted.urgency, limit=limit, offset=offset, after=after, before=before)
    else:
        counts = count_kept(session, asked) if asked.counted else count_walked(session, asked)
        nothing = counts.matching(wanted.urgency) == 0
        page = (
            [] if nothing else _walk(session, asked, limit=limit, offset=offset, after=after, before=before)
        )
    shown = page[:limit] if before is None else page[-limit:]
    more = len(page) > limit
    rows = {
        row.id: row
        for row in session.scalars(select(CaseRow).where(CaseRow.id.in_([one.case_id for one in shown])))
    }
    return Worklist(
        cases=[rows[one.case_id] for one in shown],
        matching=counts.matching(wanted.urgency),
        exact=counts.is_exact(wanted.urgency),
        by_urgency=counts.by_urgency,
        capped=counts.capped,
        by_status=count_statuses(session, site=wanted.site, device=wanted.device),
        simulated=simulated,
        previous=shown[0] if shown and (more if before else after is not None or offset > 0) else None,
        following=shown[-1] if shown and (more or before is not None) else None,
        sites=sites,
    )


def _count_few(rows: Sequence[Any]) -> CaseCounts:
    by_urgency: dict[str, int] = dict.fromkeys(URGENCIES, 0)
    for row in rows:
        by_urgency[URGENCIES[row.urgency_rank]] += 1
    return CaseCounts(by_urgency)


def _pick(
    rows: Sequence[Any], urgency: str, *, limit: int, offset: int, after: Key | None, before: Key | None
) -> list[Key]:
    keys = sorted(
        Key(row.place, row.opened_at, row.id)
        for row in rows
        if urgency not in URGENCIES or URGENCIES[row.urgency_rank] == urgency
    )
    return cut(keys, limit=limit, offset=offset, after=after, before=before)


def cut(keys: list[Key], *, limit: int, offset: int, after: Key | None, before: Key | None) -> list[Key]:
    """Return one page of all keys, in order, and, if there is one, the key behind it (before it, for ``before``)."""
    if before is not None:
        return [key for key in keys if key < before][-limit - 1 :]
    if after is not None:
        keys = [key for key in keys if key > after]
    return keys[offset : offset + limit + 1]


def _walk(
    session: Session,
    asked: CaseConditions,
    *,
    limit: int,
    offset: int,
    after: Key | None,
    before: Key | None,
) -> list[Key]:
    """Return the keys of one page and, if there is one, of the case behind it (before it, for ``before``)."""
    order, edge = asked.order, before or after
    columns = [column.desc() if before else column for column in order.key]
    query = select(*order.key).where(asked.where()).order_by(*columns)
    places = asked.places(asked.wanted.urgency)
    if edge is None:
        rows = session.execute(query.where(order.place.in_(places)).offset(offset).limit(limit + 1))
        return [Key(*row) for row in rows]
    # Two ranges of the index, and not one comparison of the whole key, which would be read from the beginning of its place on.
    time, here = tuple_(order.opened_at, order.id), tuple_(literal(edge.opened_at, UtcTime()), edge.case_id)
    beyond = [place for place in places if (place < edge.place if before else place > edge.place)]
    ranges = [and_(order.place == edge.place, time < here if before else time > here)]
    ranges = [*(ranges if edge.place in places else []), order.place.in_(beyond)]
    most = limit + 1 + (0 if before else offset)
    keys: list[Key] = []
    for part in ranges:
        if len(keys) < most:
            keys += [Key(*row) for row in session.execute(query.where(part).limit(most - len(keys)))]
    return keys[::-1] if before else keys[offset:]


__all__ = ["Key", "Worklist", "cut", "key_of", "read_worklist"]
