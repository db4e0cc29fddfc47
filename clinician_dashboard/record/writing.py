"""The session that writes: whatever changes a case, the worklist's counts, words and microscopes change with it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, event, insert, inspect, select, update
from sqlalchemy.orm import Session

from clinician_dashboard.case_result import URGENCIES
from clinician_dashboard.record.desk_tables import CaseCountRow, CaseDeviceRow, CaseWordRow, DeviceCountRow
from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.record.upsert import upsert

SIGNED_FROM = 2 * len(URGENCIES)
"""Places from this one on are those of signed cases."""
_DEFAULTS = {"urgency": "waiting", "status": "unclaimed", "leading": "", "simulated": False, "devices": ""}
_ORDERED_BY = ("place", "opened_at", "status", "leading", "devices")


class Kind(NamedTuple):
    """What cases are counted by."""

    site: str
    urgency: str
    status: str
    leading: str
    simulated: bool
    devices: str


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
    fresh = {case.id for case in session.new if isinstance(case, CaseRow)}
    connection = session.connection()
    changed: Counter[Kind] = Counter()
    for case in cases:
        changed[_kind(case)] += 1
        if case.id not in fresh:
            changed[_kind(case, before=True)] -= 1
    _count(connection, changed)
    words = [row for case in cases if case.id in fresh for row in _word_rows(case)]
    if words:
        connection.execute(insert(CaseWordRow), words)
    moved = [case for case in cases if case.id in fresh or _has_moved(case)]
    _put_devices(connection, [row for case in moved for row in _device_rows(case)])


def recount_worklist(session: Session) -> None:
    """Compute place, counts, words and microscopes of every case anew: for a record that has none yet."""
    for table in (CaseCountRow, DeviceCountRow, CaseWordRow, CaseDeviceRow):
        session.execute(delete(table))
    connection = session.connection()
    counts: Counter[Kind] = Counter()
    columns = ("id", "code", "urgency_rank", "stat", "opened_at", *Kind._fields)
    for row in session.execute(select(*(getattr(CaseRow, name) for name in columns))).mappings().all():
        case = CaseRow(**row)
        case.place = place_of(case)
        counts[_kind(case)] += 1
        connection.execute(update(CaseRow).where(CaseRow.id == case.id).values(place=case.place))
        connection.execute(insert(CaseWordRow), _word_rows(case))
        _put_devices(connection, _device_rows(case))
    _count(connection, counts)


def _count(connection: Connection, changed: Mapping[Kind, int]) -> None:
    """Add to the number of cases of each kind, and to that of each microscope's."""
    cases: Counter[tuple[Any, ...]] = Counter()
    of_device: Counter[tuple[Any, ...]] = Counter()
    for kind, by in changed.items():
        cases[kind[:-1]] += by
        for device in names_of(kind.devices):
            of_device[device, *kind[:-2]] += by
    for table, counts in ((CaseCountRow, cases), (DeviceCountRow, of_device)):
        names = table.__table__.c.keys()
        rows = [dict(zip(names, (*key, by), strict=True)) for key, by in sorted(counts.items()) if by]
        upsert(connection, table, rows, adding=["cases"])


def _put_devices(connection: Connection, rows: list[dict[str, Any]]) -> None:
    upsert(connection, CaseDeviceRow, rows, replacing=["place", "opened_at", "status", "leading"])


def _word_rows(case: CaseRow) -> list[dict[str, Any]]:
    return [{"word": word, "case_id": case.id} for word in words_of(case.code)]


def _device_rows(case: CaseRow) -> list[dict[str, Any]]:
    kind = _kind(case)
    return [
        {
            "device": name,
            "case_id": case.id,
            "place": case.place,
            "opened_at": case.opened_at,
            "status": kind.status,
            "site": kind.site,
            "leading": kind.leading,
        }
        for name in sorted(names_of(kind.devices))
    ]


def _cases(session: Session) -> Iterable[CaseRow]:
    for one in (*session.new, *session.dirty):
        if isinstance(one, CaseRow):
            yield one


def _kind(case: CaseRow, *, before: bool = False) -> Kind:
    state = inspect(case)
    values: list[Any] = []
    for name in Kind._fields:
        value = getattr(case, name)
        if before:
            history = state.attrs[name].history
            if history.added:
                value = history.deleted[0] if history.deleted else None  # it had none yet
        values.append(_DEFAULTS.get(name) if value is None else value)
    return Kind(*values)


def _has_moved(case: CaseRow) -> bool:
    state = inspect(case)
    return any(state.attrs[name].history.added for name in _ORDERED_BY)


def names_of(devices: str) -> set[str]:
    """Return the names of the microscopes that a case's column lists."""
    return {name for name in devices.split(", ") if name}
