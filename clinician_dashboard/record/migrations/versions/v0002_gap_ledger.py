"""The gap ledger, sums in a case's row, signs of life, and dead letters told by number as well."""

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Change what the first release made; the sums and the ledger are computed afterwards."""
    op.add_column("cases", sa.Column("totals", sa.JSON, nullable=False, server_default="{}"))
    for table in ("devices", "workers"):
        op.add_column(table, sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True))
        op.add_column(table, sa.Column("live", sa.Boolean, nullable=False, server_default="1"))
    op.drop_index("ix_frames_case_id", "frames")
    op.create_index("ix_frames_of_case", "frames", ["case_id", "captured_at"])
    op.create_index("ix_frames_numbers", "frames", ["site", "device", "sequence"])
    waiting = sa.text("recorded_at IS NULL")
    op.create_index(
        "ix_frames_waiting", "frames", ["case_id"], sqlite_where=waiting, postgresql_where=waiting
    )
    if op.get_bind().dialect.name == "sqlite":
        _rejections_anew()  # SQLite cannot drop a constraint
    else:
        op.drop_constraint("rejections_once", "rejections")
        op.add_column("rejections", sa.Column("sequence", sa.BigInteger, nullable=True))
    op.create_index("ix_rejections_known", "rejections", ["site", "device", "payload_sha256", "code"])
    _ledger()
    context.config.attributes["derive"] = True


def _rejections_anew() -> None:
    kept = (
        "id, frame_id, case_code, site, device, code, reason, attempts, payload_bytes, payload_sha256, worker, at, "
        "received_at, announced"
    )
    op.rename_table("rejections", "rejections_before")
    op.drop_index("ix_rejections_frame_id")
    op.create_table(
        "rejections",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("frame_id", sa.String(32), nullable=True),
        sa.Column("case_code", sa.String(40), nullable=True),
        sa.Column("site", sa.String(48), nullable=False),
        sa.Column("device", sa.String(48), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=True),
        sa.Column("code", sa.String(40), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("payload_bytes", sa.BigInteger, nullable=False),
        sa.Column("payload_sha256", sa.String(64), nullable=False),
        sa.Column("worker", sa.String(48), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("announced", sa.Integer, nullable=False),
    )
    op.execute(f"INSERT INTO rejections ({kept}) SELECT {kept} FROM rejections_before")  # noqa: S608 - names of ours
    op.drop_table("rejections_before")
    op.create_index("ix_rejections_frame_id", "rejections", ["frame_id"])


def _ledger() -> None:
    device = ("site", "device")
    op.create_table(
        "ledgers",
        *(sa.Column(name, sa.String(48), primary_key=True) for name in device),
        sa.Column("generation", sa.Integer, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("base", "top", "held", "parked")),
        *(sa.Column(name, sa.BigInteger, nullable=True) for name in ("declared", "oldest")),
    )
    op.create_table(
        "gaps",
        *(sa.Column(name, sa.String(48), primary_key=True) for name in device),
        sa.Column("generation", sa.Integer, primary_key=True),
        sa.Column("first", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
    )
