"""Makes a record's tables, and brings those of an earlier release up to this one, in one transaction."""

import logging
from pathlib import Path

from sqlalchemy import Connection, func, insert, inspect, select, text, update
from sqlalchemy.orm import Session

from broker_config.messages import now
from clinician_dashboard.errors import RecordError
from clinician_dashboard.record.case_summary import apply_result, recount
from clinician_dashboard.record.ledger import Ledger
from clinician_dashboard.record.schema import Table
from clinician_dashboard.record.sums import recount_days
from clinician_dashboard.record.tables import RECORD_VERSION, CaseRow, FrameRow, RecordInfo, RejectionRow
from clinician_dashboard.record.writing import recount_worklist

logger = logging.getLogger(__name__)

HEAD = f"{RECORD_VERSION:04d}"
MIGRATIONS = Path(__file__).with_name("migrations")


def is_up_to_date(connection: Connection, *, place: str) -> bool:
    """Return whether the record is of this release's version, revisions included.

    Args:
        connection: A connection to the database.
        place: Where the record is, for a message.

    Raises:
        RecordError: If a newer release wrote it.
    """
    version = version_of(connection)
    if version is not None and version > RECORD_VERSION:
        raise RecordError(
            f"the record in {place} is of version {version}, and this release reads up to {RECORD_VERSION}: use the release "
            "that wrote it, or a newer one"
        )
    return version == RECORD_VERSION and _revision_of(connection) == HEAD


def version_of(connection: Connection) -> int | None:
    """Return the version of a record; none where there is none yet."""
    if not inspect(connection).has_table(RecordInfo.__tablename__):
        return None
    return connection.scalar(select(RecordInfo.version))


def bring_up_to_date(connection: Connection, *, place: str) -> None:
    """Make the tables, or run the revisions that a record lacks.

    Args:
        connection: In a transaction that the caller commits; if it is rolled back, nothing has changed.
        place: Where the record is, for a message.

    Raises:
        RecordError: If the database holds something that is no record.
    """
    from alembic import command  # noqa: PLC0415 - takes a while, and a record that is up to date needs none of it
    from alembic.config import Config  # noqa: PLC0415

    logging.getLogger("alembic").setLevel(logging.WARNING)
    version = version_of(connection)
    config = Config(attributes={"connection": connection, "derive": False})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    if version is None:
        _make_room(connection, place=place)
    else:
        logger.warning("the record is of version %d and is brought to version %d", version, RECORD_VERSION)
        if _revision_of(connection) is None:  # written before there were revisions
            command.stamp(config, f"{version:04d}")
    command.upgrade(config, "head")
    if version is None:
        connection.execute(insert(RecordInfo).values(version=RECORD_VERSION, created_at=now()))
        return
    if config.attributes["derive"]:
        _derive(connection)
    connection.execute(update(RecordInfo).values(version=RECORD_VERSION))


def _revision_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("select version_num from alembic_version"))
    return revision


def _make_room(connection: Connection, *, place: str) -> None:
    """Take away what an interrupted first start of an earlier release left: tables without a single row."""
    known = inspect(connection).get_table_names()
    for table in reversed(Table.metadata.sorted_tables):
        if table.name not in known:
            continue
        if connection.dialect.name != "sqlite" or connection.scalar(select(func.count()).select_from(table)):
            raise RecordError(
                f"the database in {place} has a table '{table.name}' and is no record: it belongs to another program; name an "
                "empty database"
            )
        table.drop(connection)


def _derive(connection: Connection) -> None:
    """Compute what the record keeps of its frames: each case's sums, and the ledger."""
    with Session(connection, autoflush=False, join_transaction_mode="rollback_only") as session:
        for case_id in session.scalars(select(CaseRow.id)).all():
            case = session.get_one(CaseRow, case_id)
            recount(session, case)
            apply_result(case, stopped=())
            session.flush()
            session.expunge_all()
        recount_days(session)
        session.flush()
        recount_worklist(session)
        _begin_ledger(session)
        session.flush()


def _begin_ledger(session: Session) -> None:
    ledger = Ledger(clock=now)
    numbers = select(FrameRow.site, FrameRow.device, FrameRow.sequence, FrameRow.recorded_at).order_by(
        FrameRow.site, FrameRow.device, FrameRow.sequence
    )
    for site, device, sequence, recorded_at in session.execute(numbers):
        if recorded_at is None:
            ledger.arrived(session, (site, device), sequence)
        else:
            ledger.close(session, (site, device), sequence)
    told = select(FrameRow.site, FrameRow.device, FrameRow.sequence).join(
        RejectionRow, RejectionRow.frame_id == FrameRow.frame_id
    )
    for site, device, sequence in session.execute(told):
        ledger.close(session, (site, device), sequence)
    ledger.write(session)
