"""What clinicians say of a case - claims, readings, frame marks, signed versions, critical calls - and the outbox."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_AT = sa.DateTime(timezone=True)
_LOGIN = sa.String(80)
_NAME = sa.String(200)


def _column(
    name: str,
    kind: sa.types.TypeEngine[Any] | type[sa.types.TypeEngine[Any]],
    *,
    null: bool = False,
    index: bool = False,
) -> "sa.Column[Any]":
    return sa.Column(name, kind, nullable=null, index=index)


def _case() -> "sa.Column[Any]":
    return sa.Column("case_id", sa.Integer, sa.ForeignKey("cases.id"), nullable=False)


def upgrade() -> None:
    """Make the tables, and room for a diagnosis' finer label and its missing map."""
    op.add_column("diagnoses", sa.Column("activation_absent", sa.Text, nullable=False, server_default=""))
    op.add_column("diagnoses", _column("finer", sa.JSON, null=True))
    op.create_table(
        "case_reviews",
        sa.Column("case_id", sa.Integer, sa.ForeignKey("cases.id"), primary_key=True, autoincrement=False),
        _column("revision", sa.Integer),
        _column("status", sa.String(12), index=True),
        _column("claimed_by", _LOGIN, null=True, index=True),
        _column("claimed_name", _NAME, null=True),
        _column("claimed_at", _AT, null=True),
        _column("claim_expires_at", _AT, null=True),
        _column("signed_version", sa.Integer),
        _column("signed_at", _AT, null=True, index=True),
        _column("signed_by", _LOGIN, null=True),
        _column("signed_conclusion", sa.String(20), null=True),
        _column("signed_frames", sa.Integer),
        _column("amend_needed", sa.Boolean),
        _column("patient_code", sa.String(40), null=True, index=True),
        _column("changed_at", _AT),
    )
    _readings()
    _critical_calls()
    op.create_table("readers", sa.Column("name", _LOGIN, primary_key=True), _column("blind", sa.Boolean))
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer, primary_key=True),
        _column("kind", sa.String(20)),
        _column("site", sa.String(48)),
        _column("device", sa.String(48)),
        _column("key", _NAME, index=True),
        _column("payload", sa.Text),
        _column("created_at", _AT),
    )


def _readings() -> None:
    op.create_table(
        "opinions",
        sa.Column("id", sa.Integer, primary_key=True),
        _case(),
        _column("round", sa.Integer),
        _column("stage", sa.String(12)),
        _column("reader", _LOGIN),
        _column("reader_name", _NAME),
        _column("role", sa.String(20)),
        _column("at", _AT, index=True),
        _column("conclusion", sa.String(20)),
        _column("finer", sa.String(20)),
        _column("reason", sa.String(20)),
        _column("comment", sa.Text),
        _column("differs", sa.Boolean, null=True),
        _column("blind", sa.Boolean),
        _column("alerted", sa.Boolean),
        _column("model_decision", sa.String(10)),
        _column("model_leading", sa.String(10), null=True),
        _column("models", sa.JSON),
        _column("frames", sa.Integer),
    )
    op.create_index("ix_opinions_of_case", "opinions", ["case_id", "round"])
    op.create_table(
        "frame_marks",
        sa.Column("frame_id", sa.String(32), primary_key=True),
        sa.Column("reader", _LOGIN, primary_key=True),
        _case(),
        _column("viewed_at", _AT),
        _column("label", sa.String(20), null=True),
        _column("reason", sa.String(20)),
        _column("labelled_at", _AT, null=True),
    )
    op.create_index("ix_frame_marks_of_case", "frame_marks", ["case_id"])
    op.create_table(
        "signed_versions",
        sa.Column("id", sa.Integer, primary_key=True),
        _case(),
        _column("version", sa.Integer),
        _column("status", sa.String(12)),
        _column("signed_at", _AT, index=True),
        _column("signer", _LOGIN),
        _column("content", sa.JSON),
        _column("sha256", sa.String(64)),
        sa.UniqueConstraint("case_id", "version"),
    )


def _critical_calls() -> None:
    op.create_table(
        "critical_calls",
        sa.Column("id", sa.Integer, primary_key=True),
        _case(),
        _column("cause", sa.String(10)),
        _column("opened_at", _AT),
        _column("due_at", _AT),
        _column("acknowledged_at", _AT, null=True),
        _column("acknowledged_by", _LOGIN, null=True),
        _column("escalated_at", _AT, null=True),
        _column("called_at", _AT, null=True),
        _column("called_by", _LOGIN, null=True),
        _column("told_role", sa.String(40), null=True),
        _column("told_code", sa.String(20), null=True),
        _column("read_back", sa.Boolean),
        _column("note", sa.Text),
        _column("closed_at", _AT, null=True),
        _column("closed_by", _LOGIN, null=True),
        _column("closed_how", sa.String(20)),
    )
    op.create_index("ix_critical_calls_of_case", "critical_calls", ["case_id"])
    op.create_index("ix_critical_calls_open", "critical_calls", ["closed_at", "due_at"])
