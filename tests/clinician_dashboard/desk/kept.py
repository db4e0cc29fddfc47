"""What the record keeps for the worklist as cases change, to be compared with a recount."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from clinician_dashboard.record.desk_tables import CaseCountRow, CaseDeviceRow, CaseWordRow, DeviceCountRow
from clinician_dashboard.record.tables import CaseRow


def kept_for_worklist(session: Session) -> dict[str, set[tuple[Any, ...]]]:
    """Return every row of counts, words and microscopes, and each case's place; without counts of nothing."""
    kept: dict[str, set[tuple[Any, ...]]] = {}
    for table in (CaseCountRow, DeviceCountRow, CaseWordRow, CaseDeviceRow):
        rows = session.execute(select(*table.__table__.c)).mappings().all()
        kept[table.__tablename__] = {tuple(row.values()) for row in rows if row.get("cases", 1)}
    kept["places"] = {tuple(row) for row in session.execute(select(CaseRow.id, CaseRow.place))}
    return kept
