"""The quick way where one part of a filter leaves few cases: those are read, and the rest is done here."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from clinician_dashboard.record.case_conditions import CaseConditions
from clinician_dashboard.record.case_filter import STATUSES, is_of
from clinician_dashboard.record.desk_tables import CaseDeviceRow
from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.record.writing import names_of

FEW = 1000
_MOST_SITES = 4
"""More sites than these are not few cases."""


def find_few(session: Session, asked: CaseConditions) -> list[Any] | None:
    """Return the narrow rows of all wanted cases of any urgency; none if no part of the filter leaves few enough."""
    for sources in _sources(asked):
        ids = _bounded(session, sources)
        if ids is not None:
            return _rows(session, asked, ids)
    return None


def _sources(asked: CaseConditions) -> list[list[Select[Any]]]:
    """Return, for each part of the filter, the queries that together find every case that may be wanted."""
    sources: list[list[Select[Any]]] = []
    if asked.wanted.claimed_by:
        sources.append([select(CaseRow.id).where(CaseRow.claimed_by == asked.wanted.claimed_by)])
    if asked.part and not asked.names_class and len(asked.found_sites) <= _MOST_SITES:
        found = [asked.words(), *_of_sites(asked.found_sites)]
        if asked.found_devices:
            found.append(_of_devices(asked.found_devices))
        sources.append(found)
    if asked.device:
        sources.append([_of_devices([asked.device])])
    if asked.sites is not None and len(asked.sites) <= _MOST_SITES:
        sources.append(_of_sites(asked.sites))
    return sources


def _of_sites(sites: Sequence[str]) -> list[Select[Any]]:
    return [select(CaseRow.id).where(CaseRow.site == site) for site in sites]


def _of_devices(names: Sequence[str]) -> Select[Any]:
    return select(CaseDeviceRow.case_id).where(CaseDeviceRow.device.in_(names))


def _bounded(session: Session, sources: Sequence[Select[Any]]) -> set[int] | None:
    found: set[int] = set()
    for source in sources:
        ids = session.scalars(source.limit(FEW + 1)).all()
        found |= set(ids)
        if len(ids) > FEW or len(found) > FEW:
            return None
    return found


def _rows(session: Session, asked: CaseConditions, ids: set[int]) -> list[Any]:
    rows = session.execute(
        select(
            *(CaseRow.id, CaseRow.place, CaseRow.opened_at, CaseRow.urgency_rank, CaseRow.status),
            *(CaseRow.site, CaseRow.leading, CaseRow.claimed_by, CaseRow.code, CaseRow.devices),
        ).where(CaseRow.id.in_(ids))
    ).all()
    tests = _tests(asked)
    return [row for row in rows if all(test(row) for test in tests)]


def _tests(asked: CaseConditions) -> Sequence[Callable[[Any], bool]]:
    wanted = asked.wanted
    tests: list[Callable[[Any], bool]] = []
    if wanted.status in STATUSES:
        tests.append(lambda row: is_of(row.status, wanted.status))
    if (sites := asked.sites) is not None:
        tests.append(lambda row: row.site in sites)
    if asked.device:
        tests.append(lambda row: asked.device in names_of(row.devices))
    if asked.leading:
        tests.append(lambda row: row.leading == asked.leading)
    if wanted.claimed_by:
        tests.append(lambda row: row.claimed_by == wanted.claimed_by)
    if (before := wanted.opened_before) is not None:
        tests.append(lambda row: row.opened_at < before)
    if (after := wanted.opened_after) is not None:
        tests.append(lambda row: row.opened_at >= after)
    if asked.part:
        named = set(asked.found_devices)
        tests.append(
            lambda row: (
                asked.part in row.code.lower()
                or row.site in asked.found_sites
                or (asked.names_class and row.leading == asked.found_class)
                or not named.isdisjoint(names_of(row.devices))
            )
        )
    return tests


__all__ = ["FEW", "find_few"]
