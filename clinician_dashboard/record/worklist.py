"""The worklist: filtered, searched, counted and read a page at a time, in the same time however many cases there are.

Two ways lead to a page, with the same answers. Where a filter alone leaves few cases (a part of a code, one microscope, my
own), those are read and the rest is done here. Otherwise the index of the order is walked from where the page begins until
the page is full: it holds everything that is filtered by. What has no exact number in `CaseCountRow` is counted up to a bound.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, Select, and_, exists, false, func, literal, or_, select, tuple_
from sqlalchemy.orm import Session

from clinician_dashboard.case_result import URGENCIES
from clinician_dashboard.record.desk_tables import CaseCountRow, CaseDeviceRow, CaseWordRow
from clinician_dashboard.record.tables import CaseRow, LedgerRow, UtcTime
from clinician_dashboard.record.writing import SIGNED_FROM

Status = Literal["open", "unclaimed", "claimed", "amend", "signed"]
STATUSES: tuple[Status, ...] = get_args(Status)
"""``open`` is every one but ``signed``."""
FEW = 1000
COUNTED_TO = 300
MOST_NAMES = 1000
_LAST = "\U0010ffff"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEY = re.compile(r"(\d{1,2})\.(-?\d{1,18})\.(\d{1,9})", re.ASCII)


@dataclass(frozen=True)
class CaseFilter:
    """Which cases are wanted; what is empty or unknown does not restrict.

    Attributes:
        urgency: One of `URGENCIES`.
        status: One of `STATUSES`.
        site: A site's name.
        device: A microscope's name.
        search: Part of a case code, site or device, or a class name; not a pattern.
        claimed_by: The login of who claimed it.
        opened_before: First capture before this moment.
        opened_after: First capture at or after this moment.
    """

    urgency: str = ""
    status: str = ""
    site: str = ""
    device: str = ""
    search: str = ""
    claimed_by: str = ""
    opened_before: datetime | None = None
    opened_after: datetime | None = None


@dataclass(frozen=True)
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
        by_urgency: Cases of each urgency that match everything but the urgency, likewise up to a bound.
        by_status: Cases of each status at the wanted site.
        simulated: Whether any case of the record is simulated.
        previous: Where the page before ends; none on the first page.
        following: Where the page after begins; none on the last page.
        sites: Every site that has a case.
    """

    cases: Sequence[CaseRow]
    matching: int
    exact: bool
    by_urgency: dict[str, int]
    by_status: dict[str, int]
    simulated: bool
    previous: Key | None
    following: Key | None
    sites: Sequence[str]


@dataclass(frozen=True)
class _Line:
    id: int
    place: int
    opened_at: datetime
    urgency_rank: int

    @property
    def key(self) -> Key:
        return Key(self.place, self.opened_at, self.id)

    @property
    def order(self) -> tuple[int, datetime, int]:
        return self.place, self.opened_at, self.id


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
    counts = session.execute(select(CaseCountRow).where(CaseCountRow.cases > 0)).scalars().all()
    asked = _Asked(session, wanted, sites=sorted({row.site for row in counts}))
    few = asked.few()
    page: Sequence[_Line]
    if few is not None:
        page, total, by_urgency = _pick(few, wanted, limit=limit, offset=offset, after=after, before=before)
        exact = True
    else:
        page = _walk(session, asked, limit=limit, offset=offset, after=after, before=before)
        total, exact, by_urgency = _count(session, asked, counts)
    shown = page[:limit] if before is None else page[-limit:]
    more = len(page) > limit
    rows = {
        row.id: row
        for row in session.scalars(select(CaseRow).where(CaseRow.id.in_([one.id for one in shown])))
    }
    at_site = [row for row in counts if wanted.site in ("", row.site)]
    return Worklist(
        cases=[rows[one.id] for one in shown],
        matching=total,
        exact=exact,
        by_urgency=by_urgency,
        by_status={
            status: sum(row.cases for row in at_site if is_of(row.status, status)) for status in STATUSES
        },
        simulated=any(row.simulated for row in counts),
        previous=shown[0].key if shown and (more if before else after is not None or offset > 0) else None,
        following=shown[-1].key if shown and (more or before is not None) else None,
        sites=asked.sites,
    )


class _Asked:
    """A filter, with what its search means in this record."""

    def __init__(
        self, session: Session, wanted: CaseFilter, *, sites: Sequence[str], classes: bool = True
    ) -> None:
        self._session = session
        self.wanted = wanted
        self.sites = sites
        self.part = wanted.search.strip().lower()
        self.search_sites: list[str] = []
        self.search_devices: list[str] = []
        self.search_class = ""
        if self.part:
            self.search_sites = [site for site in sites if self.part in site]
            named = LedgerRow.device.icontains(self.part, autoescape=True)
            self.search_devices = sorted(
                set(session.scalars(select(LedgerRow.device).where(named).limit(MOST_NAMES)))
            )
            if classes:
                self.search_class = self.part if self.part == "healthy" else self.part.upper()

    @property
    def plain(self) -> bool:
        """Whether nothing is asked that `CaseCountRow` does not count."""
        wanted = self.wanted
        return not (
            self.part
            or wanted.device
            or wanted.claimed_by
            or wanted.opened_before is not None
            or wanted.opened_after is not None
        )

    def where(self, *, urgency: str) -> ColumnElement[bool]:
        """Return the whole filter as a condition, for the walk along the order."""
        wanted = self.wanted
        parts = _places(wanted.status, urgency)
        if wanted.status in ("unclaimed", "claimed", "amend"):
            parts.append(_walked(CaseRow.status) == wanted.status)
        if wanted.site:
            parts.append(_walked(CaseRow.site) == wanted.site)
        if wanted.device:
            parts.append(_has_device([wanted.device]))
        if wanted.claimed_by:
            parts.append(_walked(CaseRow.claimed_by) == wanted.claimed_by)
        if wanted.opened_before is not None:
            parts.append(CaseRow.opened_at < wanted.opened_before)
        if wanted.opened_after is not None:
            parts.append(CaseRow.opened_at >= wanted.opened_after)
        return and_(*parts, *self._found()) if parts or self.part else literal(1) == literal(1)

    def _found(self) -> list[ColumnElement[bool]]:
        if not self.part:
            return []
        found: list[ColumnElement[bool]] = [func.lower(CaseRow.code).contains(self.part, autoescape=True)]
        if self.search_class:
            found.append(_walked(CaseRow.leading) == self.search_class)
        if self.search_sites:
            found.append(_walked(CaseRow.site).in_(self.search_sites))
        if self.search_devices:
            found.append(_has_device(self.search_devices))
        return [or_(*found)]

    def few(self) -> list[Any] | None:
        """Return the narrow rows of all cases that may match, if a single part of the filter leaves few enough."""
        for sources in self._sources():
            ids = self._bounded(sources)
            if ids is not None:
                return self._rows(ids)
        return None

    def _sources(self) -> list[list[Select[Any]]]:
        wanted = self.wanted
        sources: list[list[Select[Any]]] = []
        if wanted.claimed_by:
            sources.append([select(CaseRow.id).where(CaseRow.claimed_by == wanted.claimed_by)])
        if self.part and not self._class_matters():
            sources.append(
                [
                    select(CaseWordRow.case_id).where(
                        CaseWordRow.word >= self.part, CaseWordRow.word < self.part + _LAST
                    ),
                    *(select(CaseRow.id).where(CaseRow.site == site) for site in self.search_sites[:4]),
                    *(
                        [select(CaseDeviceRow.case_id).where(CaseDeviceRow.device.in_(self.search_devices))]
                        if self.search_devices
                        else []
                    ),
                ]
                if len(self.search_sites) <= 4  # noqa: PLR2004 - more sites than that are not few cases
                else [select(CaseRow.id)]
            )
        if wanted.device:
            sources.append([select(CaseDeviceRow.case_id).where(CaseDeviceRow.device == wanted.device)])
        if wanted.site:
            sources.append([select(CaseRow.id).where(CaseRow.site == wanted.site)])
        return sources

    def _class_matters(self) -> bool:
        return self.search_class in ("healthy", "ALL", "AML", "CLL", "CML")

    def _bounded(self, sources: Sequence[Select[Any]]) -> set[int] | None:
        found: set[int] = set()
        for source in sources:
            ids = self._session.scalars(source.limit(FEW + 1)).all()
            if len(ids) > FEW:
                return None
            found |= set(ids)
        return found if len(found) <= FEW else None

    def _rows(self, ids: set[int]) -> list[Any]:
        wanted = self.wanted
        rows = self._session.execute(
            select(
                *(CaseRow.id, CaseRow.place, CaseRow.opened_at, CaseRow.urgency_rank, CaseRow.status),
                *(CaseRow.site, CaseRow.leading, CaseRow.claimed_by, CaseRow.code, CaseRow.devices),
            ).where(CaseRow.id.in_(ids))
        ).all()
        tests: list[Callable[[Any], bool]] = []
        if wanted.status in STATUSES:
            tests.append(lambda row: is_of(row.status, wanted.status))
        if wanted.site:
            tests.append(lambda row: row.site == wanted.site)
        if wanted.device:
            tests.append(lambda row: wanted.device in row.devices.split(", "))
        if wanted.claimed_by:
            tests.append(lambda row: row.claimed_by == wanted.claimed_by)
        if (before := wanted.opened_before) is not None:
            tests.append(lambda row: row.opened_at < before)
        if (after := wanted.opened_after) is not None:
            tests.append(lambda row: row.opened_at >= after)
        if self.part:
            named = set(self.search_devices)
            tests.append(
                lambda row: (
                    self.part in row.code.lower()
                    or row.site in self.search_sites
                    or row.leading == self.search_class
                    or not named.isdisjoint(row.devices.split(", "))
                )
            )
        return [row for row in rows if all(test(row) for test in tests)]


def condition(session: Session, wanted: CaseFilter, *, sites: Sequence[str]) -> ColumnElement[bool]:
    """Return a filter as a condition that asks nothing of what the model says: neither the urgency nor the class."""
    return _Asked(session, wanted, sites=sites, classes=False).where(urgency="")


def _pick(
    rows: Sequence[Any],
    wanted: CaseFilter,
    *,
    limit: int,
    offset: int,
    after: Key | None,
    before: Key | None,
) -> tuple[list[_Line], int, dict[str, int]]:
    by_urgency: dict[str, int] = dict.fromkeys(URGENCIES, 0)
    for row in rows:
        by_urgency[URGENCIES[row.urgency_rank]] += 1
    lines = sorted(
        (
            _Line(row.id, row.place, row.opened_at, row.urgency_rank)
            for row in rows
            if wanted.urgency not in URGENCIES or URGENCIES[row.urgency_rank] == wanted.urgency
        ),
        key=lambda line: line.order,
    )
    total = len(lines)
    if before is not None:
        here = (before.place, before.opened_at, before.case_id)
        return [line for line in lines if line.order < here][-limit - 1 :], total, by_urgency
    if after is not None:
        here = (after.place, after.opened_at, after.case_id)
        lines = [line for line in lines if line.order > here]
    return lines[offset : offset + limit + 1], total, by_urgency


def _walk(
    session: Session, asked: _Asked, *, limit: int, offset: int, after: Key | None, before: Key | None
) -> list[_Line]:
    order = (CaseRow.place, CaseRow.opened_at, CaseRow.id)
    query = select(CaseRow.id, CaseRow.place, CaseRow.opened_at).where(
        asked.where(urgency=asked.wanted.urgency)
    )
    edge = before or after
    if edge is not None:
        here = tuple_(literal(edge.place), literal(edge.opened_at, UtcTime()), literal(edge.case_id))
        query = query.where(tuple_(*order) < here if before else tuple_(*order) > here)
    if before is not None:
        query = query.order_by(*(column.desc() for column in order))
    else:
        query = query.order_by(*order).offset(offset)
    lines = [_Line(row.id, row.place, row.opened_at, 0) for row in session.execute(query.limit(limit + 1))]
    return lines[::-1] if before is not None else lines


def _count(
    session: Session, asked: _Asked, counts: Sequence[CaseCountRow]
) -> tuple[int, bool, dict[str, int]]:
    wanted = asked.wanted
    by_urgency: dict[str, int]
    if asked.plain:
        by_urgency = {
            urgency: sum(
                row.cases
                for row in counts
                if row.urgency == urgency
                and wanted.site in ("", row.site)
                and (wanted.status not in STATUSES or is_of(row.status, wanted.status))
            )
            for urgency in URGENCIES
        }
        exact = True
    else:
        by_urgency = {
            urgency: session.scalar(
                select(func.count()).select_from(
                    select(CaseRow.id).where(asked.where(urgency=urgency)).limit(COUNTED_TO + 1).subquery()
                )
            )
            or 0
            for urgency in URGENCIES
        }
        exact = max(by_urgency.values()) <= COUNTED_TO
        by_urgency = {urgency: min(COUNTED_TO, number) for urgency, number in by_urgency.items()}
    total = by_urgency[wanted.urgency] if wanted.urgency in URGENCIES else sum(by_urgency.values())
    return total, exact, by_urgency


def _places(status: str, urgency: str) -> list[ColumnElement[bool]]:
    """Return the part of the order that a status and an urgency leave."""
    spans = [0, SIGNED_FROM]
    if status in STATUSES:
        spans = [SIGNED_FROM] if status == "signed" else [0]
    if urgency in URGENCIES:
        first = 2 * list[str](URGENCIES).index(urgency)
        last = first + 1
    else:
        first, last = 0, SIGNED_FROM - 1
        if len(spans) > 1:
            return []
    return [or_(*(CaseRow.place.between(span + first, span + last) for span in spans))]


def is_of(status: str, wanted: str) -> bool:
    """Return whether a case's status is one of those that ``wanted`` names."""
    return status != "signed" if wanted == "open" else status == wanted


def _walked(column: Any) -> ColumnElement[Any]:
    """Keep the database from leaving the order's index for this column's own."""
    return func.coalesce(column, "")


def _has_device(names: Sequence[str]) -> ColumnElement[bool]:
    if not names:
        return false()
    return exists().where(CaseDeviceRow.case_id == CaseRow.id, CaseDeviceRow.device.in_(names))


__all__ = ["STATUSES", "CaseFilter", "Key", "Status", "Worklist", "key_of", "read_worklist"]
