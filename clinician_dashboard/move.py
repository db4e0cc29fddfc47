"""Moving a record from its folder to a PostgreSQL server: every row is copied, and then compared with where it came from.

All of it is one transaction there, so a move that breaks off leaves an empty database, and the record in its folder as it was.
The images stay where they are. Rows go over by ``COPY`` in its text format (PostgreSQL 15, COPY, "File Formats").
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Connection, Engine, Row, String, collate, delete, func, inspect, select, text
from sqlalchemy import Table as SqlTable
from sqlalchemy.exc import SQLAlchemyError

from clinician_dashboard.backup_folder import DATABASE, Progress
from clinician_dashboard.errors import RecordError
from clinician_dashboard.record.database import Record
from clinician_dashboard.record.faults import cause_of, remedy_of
from clinician_dashboard.record.folder_lock import FolderLock
from clinician_dashboard.record.schema import Table
from clinician_dashboard.record.tables import RecordInfo
from clinician_dashboard.record.upgrade import bring_up_to_date

MOVED = f"{DATABASE}.moved"
BATCH = 2000
UNTOUCHED = (
    "Nothing was moved: the record in its folder is as it was, and the database at the server is empty still."
)
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


@dataclass(frozen=True)
class Moved:
    """What was moved.

    Attributes:
        rows: By table; every one was compared.
        kept: Where the database file is now; nothing reads it any more.
    """

    rows: dict[str, int]
    kept: Path


def move_to_server(directory: Path, server: Engine, *, place: str, progress: Progress) -> Moved:
    """Move the record in a folder into an empty database.

    Args:
        directory: The record's folder; no dashboard runs on it.
        server: To the database; with the writer's lock, and patient.
        place: Where that is, for a message.
        progress: Told how many rows of how many are done; each counts twice, once copied and once compared.

    Raises:
        RecordInUse: If a dashboard runs on either.
        RecordError: If there is no record in the folder, the database is not empty, or either of them fails.
    """
    file = directory / DATABASE
    if not file.is_file():
        raise RecordError(
            f"{directory} holds no {DATABASE}: there is nothing to move; a dashboard with these settings begins a new record"
        )
    source = Record(f"sqlite:///{file}", directory)
    source.start()  # refused while a dashboard has it; brought up to date if it is of an earlier release
    try:
        rows = _copy(source, server, place=place, progress=progress)
    finally:
        source.stop()
    return Moved(rows, _put_aside(directory))


def _copy(source: Record, server: Engine, *, place: str, progress: Progress) -> dict[str, int]:
    try:
        with source.engine.connect() as here, server.connect() as there:
            _refuse_a_full_one(there, place=place)
            bring_up_to_date(there, place=place)
            tables = Table.metadata.sorted_tables
            rows = {table.name: here.scalar(select(func.count()).select_from(table)) or 0 for table in tables}
            told = _Told(progress, 2 * sum(rows.values()))
            there.execute(delete(RecordInfo))  # all that a new record begins with
            for table in tables:
                _send(table, here, there, told)
                _go_on_counting(table, here, there)
            for table in tables:
                _compare(table, here, there, told)
            there.exec_driver_sql("analyze")
            there.commit()
    except SQLAlchemyError as error:
        raise RecordError(
            f"the record could not be moved to {place} ({cause_of(error)}): {remedy_of(error)}. {UNTOUCHED}"
        ) from None
    return rows


def _refuse_a_full_one(there: Connection, *, place: str) -> None:
    names = sorted(inspect(there).get_table_names())
    if names:
        raise RecordError(
            f"the database in {place} holds tables already ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}): a move "  # noqa: PLR2004
            f"fills an empty one only; name another in database_url. If a move into this one ended, only {MOVED} is left in the "
            f"folder, and there is nothing more to do; if {DATABASE} is there too, drop this database, make it anew and move again"
        )


def _send(table: SqlTable, here: Connection, there: Connection, told: "_Told") -> None:
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    cursor = there.connection.cursor()
    try:
        cursor.execute(f'copy "{table.name}" ({columns}) from stdin', stream=_lines(table, here, told))  # type: ignore[call-arg]
    except (there.dialect.loaded_dbapi.Error, OSError) as error:  # past SQLAlchemy, which knows no COPY
        raise RecordError(
            f"the server refuses rows of the table '{table.name}' ({_said(error)}). {UNTOUCHED}"
        ) from None
    finally:
        cursor.close()


def _said(error: BaseException) -> str:
    told = error.args[0] if error.args else ""
    return str(told.get("M", "") if isinstance(told, dict) else told).partition("\n")[0][:200]


def _lines(table: SqlTable, here: Connection, told: "_Told") -> Iterator[bytes]:
    """Yield the rows as ``COPY`` reads them, in batches."""
    encoders = [_json_text if isinstance(column.type, JSON) else _plain_text for column in table.columns]
    nullable = [column.nullable for column in table.columns]
    for batch in _rows(table, here):
        lines = [
            "\t".join(
                "\\N" if value is None and may_be_null else encode(value)
                for value, encode, may_be_null in zip(row, encoders, nullable, strict=True)
            )
            for row in batch
        ]
        yield "".join(f"{line}\n" for line in lines).encode()
        told.more(len(batch))


def _json_text(value: Any) -> str:
    return json.dumps(value).translate(_ESCAPES)


def _plain_text(value: Any) -> str:
    return str(value).translate(_ESCAPES)  # of a time ISO 8601 with its zone; of a truth value True or False


def _rows(table: SqlTable, connection: Connection) -> Iterator[Sequence[Row[Any]]]:
    """Yield a table's rows in the order of their keys, which is the same on both databases."""
    bytewise = connection.dialect.name != "sqlite"  # as SQLite has it by itself
    order = [
        collate(column, "C") if bytewise and isinstance(column.type, String) else column
        for column in table.primary_key
    ]
    options = {"stream_results": True, "yield_per": BATCH}
    return connection.execute(select(table).order_by(*order), execution_options=options).partitions()


def _go_on_counting(table: SqlTable, here: Connection, there: Connection) -> None:
    """Let the server's own numbers go on where the record's ended."""
    key = table.autoincrement_column
    if key is None or not (top := here.scalar(select(func.max(key)))):
        return
    sequence = there.scalar(select(func.pg_get_serial_sequence(f'"{table.name}"', key.name)))
    if sequence is not None:
        there.execute(text("select setval(:sequence, :top)"), {"sequence": sequence, "top": top})


def _compare(table: SqlTable, here: Connection, there: Connection, told: "_Told") -> None:
    arrived = (row for batch in _rows(table, there) for row in batch)
    for batch in _rows(table, here):
        for row in batch:
            if (other := next(arrived, None)) is None or tuple(other) != tuple(row):
                raise RecordError(
                    f"a row of the table '{table.name}' does not read at the server as it was written. {UNTOUCHED}"
                )
        told.more(len(batch))
    if next(arrived, None) is not None:
        raise RecordError(
            f"the server has more rows in the table '{table.name}' than it was sent. {UNTOUCHED}"
        )


def _put_aside(directory: Path) -> Path:
    """Rename the database file, so that no dashboard goes on with it by mistake."""
    lock = FolderLock(directory)
    try:
        lock.take()
        kept = (directory / DATABASE).replace(directory / MOVED)
        for rest in directory.glob(f"{DATABASE}-*"):  # empty since the last connection was closed
            rest.unlink()
    except OSError as error:
        raise RecordError(
            f"the record was moved, and {directory / DATABASE} could not be renamed ({error.strerror or error}): rename it to "
            f"{MOVED} by hand before a dashboard starts"
        ) from None
    finally:
        lock.release()
    return kept


class _Told:
    def __init__(self, progress: Progress, whole: int) -> None:
        self._progress = progress
        self._whole = whole
        self._done = 0

    def more(self, rows: int) -> None:
        self._done += rows
        self._progress(self._done, self._whole)
