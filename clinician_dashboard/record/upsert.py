"""Rows that are put in, or change the row of the same key that is there; alike on both databases."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from clinician_dashboard.record.tables import Table


def upsert(
    connection: Connection,
    table: type[Table],
    rows: Sequence[Mapping[str, Any]],
    *,
    adding: Iterable[str] = (),
    replacing: Iterable[str] = (),
) -> None:
    """Put ``rows`` into the table, or change what is there under their keys.

    Args:
        connection: Within a transaction.
        table: The table.
        rows: With all of its columns; each key once.
        adding: Columns of numbers to which a row's is added.
        replacing: Columns that a row replaces.
    """
    if not rows:
        return
    make: Any = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = make(table.__table__)
    known, given = table.__table__.c, statement.excluded
    changes = {name: known[name] + given[name] for name in adding} | {name: given[name] for name in replacing}
    statement = statement.on_conflict_do_update(
        index_elements=list(table.__table__.primary_key), set_=changes
    )
    connection.execute(statement, list(rows))
