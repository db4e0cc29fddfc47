"""Brings a record that an earlier release wrote up to this one, in one transaction."""

import logging

from sqlalchemy import Connection, select, update
from sqlalchemy.orm import Session

from broker_config.messages import now
from clinician_dashboard.record.case_summary import recount
from clinician_dashboard.record.ledger import Ledger
from clinician_dashboard.record.tables import (
    RECORD_VERSION,
    CaseRow,
    FrameRow,
    RecordInfo,
    RejectionRow,
    Table,
)

logger = logging.getLogger(__name__)

_ADDED = (
    "ALTER TABLE cases ADD COLUMN totals JSON NOT NULL DEFAULT '{}'",
    *(
        f"ALTER TABLE {table} ADD COLUMN {column}"
        for table in ("devices", "workers")
        for column in ("seen_at DATETIME", "live BOOLEAN NOT NULL DEFAULT 1")
    ),
    "DROP INDEX IF EXISTS ix_frames_case_id",
    "ALTER TABLE rejections RENAME TO rejections_before",
    "DROP INDEX IF EXISTS ix_rejections_frame_id",
)
_MOVED = (
    (
        "INSERT INTO rejections (id, frame_id, case_code, site, device, code, reason, attempts, payload_bytes, "
        "payload_sha256, worker, at, received_at, announced) SELECT id, frame_id, case_code, site, device, code, reason, "
        "attempts, payload_bytes, payload_sha256, worker, at, received_at, announced FROM rejections_before"
    ),
    "DROP TABLE rejections_before",
)


def upgrade(connection: Connection, *, version: int) -> None:
    """Upgrade a SQLite record of ``version`` within the connection's transaction.

    Args:
        connection: In a transaction that the caller commits.
        version: The version that it has; lower than this release's.
    """
    logger.warning("the record is of version %d and is brought to version %d", version, RECORD_VERSION)
    for statement in _ADDED:
        connection.exec_driver_sql(statement)
    Table.metadata.create_all(connection)
    for table in Table.metadata.tables.values():
        for index in table.indexes:
            index.create(connection, checkfirst=True)
    for statement in _MOVED:
        connection.exec_driver_sql(statement)
    with Session(connection, autoflush=False, join_transaction_mode="rollback_only") as session:
        for case_id in session.scalars(select(CaseRow.id)).all():
            recount(session, session.get_one(CaseRow, case_id))
            session.flush()
            session.expunge_all()
        _begin_ledger(session)
        session.flush()
    connection.execute(update(RecordInfo).values(version=RECORD_VERSION))


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
