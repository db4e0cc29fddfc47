"""The session that writes: whatever changes a case, the worklist's counts, words and microscopes change with it."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, delete, event, insert, inspect, select, update
from sqlalchemy.orm import Session

from clinician_dashboard.case_result import URGENCIES
from clinician_dashboard.record.desk_tables import CaseCountRow, CaseDeviceRow, CaseWordRow
from clinician_dashboard.record.tables import CaseRow

SIGNED_FROM = 2 * len(URGENCIES)
"""Places from this one on are those of signed cases."""
_COUNTED_BY = ("site", "urgency", "status", "simulated")
_DEFAULTS = {"urgency": "waiting", "status": "unclaimed", "simulated": False}

Kind = tuple[str, str, str, bool]


class WritingSession(Session):
    """A session within `Record.transaction`. Change cases through their rows and not by ``update()``."""


def place_of(case: CaseRow) -> int:
    """Return where a case stands: by urgency, stat before routine, and what is signed behind everything else."""
    rank = len(URGENCIES) - 1 if case.urgency_rank is None else case.urgency_rank
    return 2 * rank + (0 if case.stat else 1) + (SIGNED_FROM if case.status == "signed" else 0)


def words_of(code: str) -> set[str]:
    """Return every ending of a case code, lower case."""
    code = code.lower()
    return {code[start:] for start in range(len(code))}


@event.listens_for(WritingSession, "before_flush")
def _set_places(session: Session, _context: object, _instances: object) -> None:
    for case in _cases(session):
        place = place_of(case)
        if case.place != place:
            case.place = place


@event.listens_for(WritingSession, "after_flush")
def _keep_worklist(session: Session, _context: object) -> None:
    cases = list(_cases(session))
    if not cases:
        return
    fresh = [case for case in session.new if isinstance(case, CaseRow)]
    connection = session.connection()
    changed: Counter[Kind] = Counter()
    for case in cases:
        now = _kind(case)
        before = None if case in fresh else _kind(case, before=True)
        if now != before:
            changed[now] += 1
            if before is not None:
                changed[before] -= 1
    count(connection, changed)
    words = [{"word": word, "case_id": case.id} for case in fresh for word in words_of(case.code)]
    if words:
        connection.execute(insert(CaseWordRow), words)
    devices = [{"device": name, "case_id": case.id} for case in cases for name in _new_devices(case)]
    if devices:
        connection.execute(insert(CaseDeviceRow), devices)


def count(connection: Connection, changed: Counter[Kind]) -> None:
    """Add to the number of cases of each kind."""
    for kind, by in sorted(changed.items()):
        if not by:
            continue
        row = dict(zip(_COUNTED_BY, kind, strict=True))
        table = CaseCountRow.__table__.c
        where = [table[name] == value for name, value in row.items()]
        done = connection.execute(
            update(CaseCountRow).where(*where).values(cases=CaseCountRow.cases + by)
        ).rowcount
        if not done:
            connection.execute(insert(CaseCountRow), [{**row, "cases": by}])


def recount_worklist(session: Session) -> None:
    """Compute place, counts, words and microscopes of every case anew: for a record that has none yet."""
    for table in (CaseCountRow, CaseWordRow, CaseDeviceRow):
        session.execute(delete(table))
    connection = session.connection()
    counts: Counter[Kind] = Counter()
    cases = session.execute(
        select(
            *(CaseRow.id, CaseRow.code, CaseRow.devices, CaseRow.urgency_rank, CaseRow.stat),
            *(getattr(CaseRow, name) for name in _COUNTED_BY),
        )
    ).all()
    for case in cases:
        counts[tuple(getattr(case, name) for name in _COUNTED_BY)] += 1
        connection.execute(update(CaseRow).where(CaseRow.id == case.id).values(place=place_of(case)))  # type: ignore[arg-type]
        connection.execute(
            insert(CaseWordRow), [{"word": word, "case_id": case.id} for word in words_of(case.code)]
        )
        devices = [{"device": name, "case_id": case.id} for name in _names(case.devices)]
        if devices:
            connection.execute(insert(CaseDeviceRow), devices)
    count(connection, counts)


def _cases(session: Session) -> Iterable[CaseRow]:
    for one in (*session.new, *session.dirty):
        if isinstance(one, CaseRow):
            yield one


def _kind(case: CaseRow, *, before: bool = False) -> Kind:
    state = inspect(case)
    values: list[Any] = []
    for name in _COUNTED_BY:
        value = getattr(case, name)
        if before:
            history = state.attrs[name].history
            value = history.deleted[0] if history.deleted else value
        values.append(_DEFAULTS.get(name) if value is None else value)
    return tuple(values)


def _new_devices(case: CaseRow) -> set[str]:
    history = inspect(case).attrs.devices.history
    if not history.added:
        return set()
    return _names(history.added[0]) - _names(history.deleted[0] if history.deleted else "")


def _names(devices: str | None) -> set[str]:
    return {name for name in (devices or "").split(", ") if name}
