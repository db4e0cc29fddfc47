"""Counts by class and by microscope, and the order of each microscope's cases."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the tables anew, and fill them from the cases as they are."""
    # PostgreSQL has a word "leading" of its own: quoted throughout.
    _count_by_class()
    _order_by_microscope()
    _count_by_microscope()


def _count_by_class() -> None:
    op.drop_table("case_counts")
    op.create_table(
        "case_counts",
        *_kind(),
        sa.Column("simulated", sa.Boolean, primary_key=True),
        sa.Column("cases", sa.Integer, nullable=False),
    )
    op.execute(
        """
        insert into case_counts (site, urgency, status, "leading", simulated, cases)
        select site, urgency, status, coalesce("leading", ''), simulated, count(*) from cases
        group by site, urgency, status, coalesce("leading", ''), simulated
        """
    )


def _order_by_microscope() -> None:
    op.execute("create temporary table earlier_case_devices as select device, case_id from case_devices")
    op.drop_table("case_devices")
    op.create_table(
        "case_devices",
        sa.Column("device", sa.String(48), primary_key=True),
        sa.Column("case_id", sa.Integer, sa.ForeignKey("cases.id"), primary_key=True, autoincrement=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.String(12), nullable=False),
        sa.Column("site", sa.String(48), nullable=False),
        sa.Column("leading", sa.String(10), nullable=False),
        sqlite_with_rowid=False,
    )
    op.execute(
        """
        insert into case_devices (device, case_id, place, opened_at, status, site, "leading")
        select device, case_id, place, opened_at, status, site, coalesce("leading", '')
        from earlier_case_devices join cases on cases.id = case_id order by device, case_id
        """
    )
    op.execute("drop table earlier_case_devices")
    op.create_index(
        "ix_case_devices_place",
        "case_devices",
        ["device", "place", "opened_at", "case_id", "status", "site", "leading"],
    )


def _count_by_microscope() -> None:
    op.create_table(
        "device_counts",
        sa.Column("device", sa.String(48), primary_key=True),
        *_kind(),
        sa.Column("cases", sa.Integer, nullable=False),
    )
    op.execute(
        """
        insert into device_counts (device, site, urgency, status, "leading", cases)
        select device, cases.site, urgency, cases.status, case_devices."leading", count(*)
        from case_devices join cases on cases.id = case_id
        group by device, cases.site, urgency, cases.status, case_devices."leading"
        """
    )


def _kind() -> "list[sa.Column[str]]":
    lengths = {"site": 48, "urgency": 10, "status": 12, "leading": 10}
    return [sa.Column(name, sa.String(length), primary_key=True) for name, length in lengths.items()]
