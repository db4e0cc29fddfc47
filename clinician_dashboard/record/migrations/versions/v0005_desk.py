"""What the worklist and the operators' pages need at scale: a case's place and status, counts, words, sums by day, models."""

import sqlalchemy as sa
from alembic import context, op

revision = "0005"
down_revision = "0004"

_BYTEWISE = sa.String(40).with_variant(sa.String(40, collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns and tables; what is in them is computed afterwards."""
    op.add_column("cases", sa.Column("status", sa.String(12), nullable=False, server_default="unclaimed"))
    op.add_column("cases", sa.Column("claimed_by", sa.String(80), nullable=True))
    op.add_column("cases", sa.Column("signed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("cases", sa.Column("place", sa.Integer, nullable=False, server_default="9"))
    op.drop_index("ix_cases_worklist", "cases")
    op.drop_index("ix_cases_urgency", "cases")
    op.create_index(
        "ix_cases_place",
        "cases",
        ["place", "opened_at", "id", "status", "site", "leading", "claimed_by", "code"],
    )
    claimed = sa.text("claimed_by IS NOT NULL")
    op.create_index(
        "ix_cases_claimed_by", "cases", ["claimed_by"], sqlite_where=claimed, postgresql_where=claimed
    )
    op.create_index("ix_cases_changed_at", "cases", ["changed_at"])
    _worklist()
    _sums()
    context.config.attributes["derive"] = True


def _worklist() -> None:
    op.create_table(
        "case_counts",
        sa.Column("site", sa.String(48), primary_key=True),
        sa.Column("urgency", sa.String(10), primary_key=True),
        sa.Column("status", sa.String(12), primary_key=True),
        sa.Column("simulated", sa.Boolean, primary_key=True),
        sa.Column("cases", sa.Integer, nullable=False),
    )
    for table, name, kind in (
        ("case_words", "word", _BYTEWISE),
        ("case_devices", "device", sa.String(48)),
    ):
        op.create_table(
            table,
            sa.Column(name, kind, primary_key=True),
            sa.Column(
                "case_id", sa.Integer, sa.ForeignKey("cases.id"), primary_key=True, autoincrement=False
            ),
            sqlite_with_rowid=False,
        )


def _sums() -> None:
    op.create_table(
        "days",
        *_key(),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("frames", "referred", "unlike")),
        *(
            sa.Column(f"{name}_{what}", sa.Double, nullable=False)
            for name in ("top", "ood", "quality")
            for what in ("sum", "squares")
        ),
    )
    op.create_index("ix_days_of_model", "days", ["weights_sha256", "day"])
    op.create_table(
        "reading_days",
        *_key(),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("read", "overridden")),
    )
    op.create_table(
        "models",
        sa.Column("weights_sha256", sa.String(64), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("simulated", sa.Boolean, nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("changed_by", sa.String(80), nullable=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("applied", sa.Integer, nullable=False),
        sa.Column("through", sa.BigInteger, nullable=False),
    )


def _key() -> "list[sa.Column[str]]":
    lengths = {"day": 10, "site": 48, "device": 48, "weights_sha256": 64}
    return [sa.Column(name, sa.String(length), primary_key=True) for name, length in lengths.items()]
