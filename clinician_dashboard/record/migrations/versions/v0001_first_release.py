"""The record as the first release made it."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_AT = sa.DateTime(timezone=True)
_NAME = sa.String(48)
_WORD = sa.String(10)
_FRAME = sa.String(32)
_HASH = sa.String(64)


def _column(
    name: str, kind: sa.types.TypeEngine[Any] | type[sa.types.TypeEngine[Any]], *, null: bool = False
) -> "sa.Column[Any]":
    return sa.Column(name, kind, nullable=null)


def _key(name: str, kind: sa.types.TypeEngine[Any] | type[sa.types.TypeEngine[Any]]) -> "sa.Column[Any]":
    return sa.Column(name, kind, primary_key=True)


def upgrade() -> None:
    """Make every table."""
    _cases()
    _frames()
    _diagnoses()
    _rejections()
    _fleet()
    op.create_table(
        "tallies",
        _key("name", sa.String(40)),
        _key("code", sa.String(40)),
        _column("count", sa.BigInteger),
        _column("last_at", _AT),
        _column("last_detail", sa.Text),
    )
    op.create_table(
        "record_info", sa.Column("version", sa.Integer, primary_key=True), _column("created_at", _AT)
    )


def _cases() -> None:
    op.create_table(
        "cases",
        _key("id", sa.Integer),
        _column("site", _NAME),
        _column("code", sa.String(40)),
        _column("devices", sa.Text),
        _column("stat", sa.Boolean),
        _column("opened_at", _AT),
        _column("changed_at", _AT),
        _column("first_result_at", _AT, null=True),
        _column("revision", sa.Integer),
        _column("simulated", sa.Boolean),
        _column("recorded", sa.Integer),
        _column("waiting", sa.Integer),
        _column("referred", sa.Integer),
        _column("urgency", _WORD),
        _column("urgency_rank", sa.Integer),
        _column("decision", _WORD),
        _column("leading", _WORD, null=True),
        _column("result", sa.JSON),
        sa.UniqueConstraint("site", "code"),
    )
    op.create_index("ix_cases_urgency", "cases", ["urgency"])
    op.create_index("ix_cases_worklist", "cases", ["urgency_rank", "opened_at"])


def _frames() -> None:
    op.create_table(
        "frames",
        _key("frame_id", _FRAME),
        sa.Column("case_id", sa.Integer, sa.ForeignKey("cases.id"), nullable=False),
        _column("site", _NAME),
        _column("device", _NAME),
        _column("priority", _WORD),
        _column("sequence", sa.BigInteger),
        _column("captured_at", _AT),
        _column("received_at", _AT),
        _column("recorded_at", _AT, null=True),
        _column("encoding", sa.String(5)),
        _column("width", sa.Integer),
        _column("height", sa.Integer),
        *(
            _column(name, sa.Double, null=True)
            for name in ("pixel_size_um", "exposure_ms", "focus_um", "stage_x_um", "stage_y_um")
        ),
        _column("capture_ms", sa.Double),
        _column("quality", sa.JSON),
        _column("simulated", sa.Boolean),
        _column("image_sha256", _HASH),
        _column("image_bytes", sa.Integer),
    )
    op.create_index("ix_frames_case_id", "frames", ["case_id"])
    op.create_index("ix_frames_image_sha256", "frames", ["image_sha256"])
    op.create_index("ix_frames_recorded_at", "frames", ["recorded_at"])


def _diagnoses() -> None:
    op.create_table(
        "diagnoses",
        _key("id", sa.Integer),
        _column("frame_id", _FRAME),
        _column("weights_sha256", _HASH),
        _column("joined", sa.Boolean),
        _column("case_code", sa.String(40)),
        _column("site", _NAME),
        _column("device", _NAME),
        _column("worker", _NAME),
        _column("diagnosed_at", _AT),
        _column("received_at", _AT),
        _column("model", sa.JSON),
        _column("probabilities", sa.JSON),
        _column("prediction", _WORD),
        _column("prediction_set", sa.JSON),
        _column("decision", _WORD),
        _column("reasons", sa.JSON),
        _column("quality", sa.JSON),
        _column("ood_score", sa.Double),
        _column("ood_threshold", sa.Double),
        _column("activation", sa.JSON),
        _column("timings", sa.JSON),
        _column("image_sha256", _HASH),
        _column("simulated", sa.Boolean),
        sa.UniqueConstraint("frame_id", "weights_sha256"),
    )
    op.create_index("ix_diagnoses_frame_id", "diagnoses", ["frame_id"])
    op.create_index("ix_diagnoses_joined", "diagnoses", ["joined"])


def _rejections() -> None:
    op.create_table(
        "rejections",
        _key("id", sa.Integer),
        _column("frame_id", _FRAME, null=True),
        _column("case_code", sa.String(40), null=True),
        _column("site", _NAME),
        _column("device", _NAME),
        _column("code", sa.String(40)),
        _column("reason", sa.Text),
        # The first release said Integer, which SQLite reads the same; PostgreSQL would refuse what the contract allows.
        _column("attempts", sa.BigInteger),
        _column("payload_bytes", sa.BigInteger),
        _column("payload_sha256", _HASH),
        _column("worker", _NAME),
        _column("at", _AT),
        _column("received_at", _AT),
        _column("announced", sa.Integer),
        sa.UniqueConstraint("site", "device", "payload_sha256", "code", name="rejections_once"),
    )
    op.create_index("ix_rejections_frame_id", "rejections", ["frame_id"])


def _fleet() -> None:
    for table, keys in (("devices", ("site", "device")), ("workers", ("worker",))):
        op.create_table(
            table,
            *(_key(name, _NAME) for name in keys),
            _column("birth", sa.BigInteger),
            _column("presence", _WORD),
            _column("heard_at", _AT),
            _column("state", sa.JSON),
        )
