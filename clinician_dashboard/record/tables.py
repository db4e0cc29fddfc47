"""The tables. Short enough to be read in one sitting; `docs/` has the picture.

A frame's row is written when its image comes, a diagnosis' row when the diagnosis comes, in either order. The frame is
*recorded* (``recorded_at`` is set) in the transaction that brings the second of the two.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator

RECORD_VERSION = 7


class UtcTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite keeps no time zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return ``value`` in UTC, without zone where the database keeps none."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone may not enter the record")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return ``value`` with its zone."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Table(DeclarativeBase):
    """Base of every table."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own convention
        datetime: UtcTime,
        dict[str, Any]: JSON,
        list[Any]: JSON,
    }


class CaseRow(Table):
    """One case at one site, with its result as last computed (`clinician_dashboard.case_result`).

    Case codes are a clinic's own, so two sites may use the same one: the pair is the key.
    """

    __tablename__ = "cases"
    __table_args__ = (
        UniqueConstraint("site", "code"),
        # The worklist in its order, with all that it is filtered by: no row of the table is read for what is not shown.
        Index(
            "ix_cases_place", "place", "opened_at", "id", "status", "site", "leading", "claimed_by", "code"
        ),
        Index(
            "ix_cases_claimed_by",
            "claimed_by",
            sqlite_where=text("claimed_by IS NOT NULL"),
            postgresql_where=text("claimed_by IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(String(48))
    code: Mapped[str] = mapped_column(String(40))
    devices: Mapped[str] = mapped_column(Text, default="", active_history=True)
    stat: Mapped[bool] = mapped_column(default=False)
    opened_at: Mapped[datetime] = mapped_column(doc="the first capture")
    changed_at: Mapped[datetime] = mapped_column(index=True, doc="the last change of the row")
    first_result_at: Mapped[datetime | None] = mapped_column(default=None)
    revision: Mapped[int] = mapped_column(default=0, doc="rises with each change")
    simulated: Mapped[bool] = mapped_column(default=False, active_history=True)
    recorded: Mapped[int] = mapped_column(default=0)
    waiting: Mapped[int] = mapped_column(default=0)
    referred: Mapped[int] = mapped_column(default=0)
    urgency: Mapped[str] = mapped_column(String(10), default="waiting", active_history=True)
    urgency_rank: Mapped[int] = mapped_column(default=4)
    status: Mapped[str] = mapped_column(
        String(12),
        default="unclaimed",
        server_default="unclaimed",
        active_history=True,
        doc="of its review: unclaimed, claimed, signed, or amend where a signed one needs it",
    )
    claimed_by: Mapped[str | None] = mapped_column(String(80), default=None)
    signed_at: Mapped[datetime | None] = mapped_column(default=None)
    place: Mapped[int] = mapped_column(
        default=9, server_default="9", doc="in the worklist: by urgency, stat first; signed ones at the end"
    )
    decision: Mapped[str] = mapped_column(String(10), default="refer")
    leading: Mapped[str | None] = mapped_column(String(10), default=None, active_history=True)
    result: Mapped[dict[str, Any]] = mapped_column(
        default=dict, doc="of the model, with its own urgency; and whether a reader suspects acute leukaemia"
    )
    totals: Mapped[dict[str, Any]] = mapped_column(
        default=dict,
        server_default="{}",
        doc="sums over its frames, so that a new one costs the same in any case",
    )

    @property
    def model_urgency(self) -> str:
        """The urgency by the model's answers alone; ``urgency`` may be raised by a reader."""
        return str((self.result or {}).get("urgency", self.urgency))

    @property
    def reader_suspects(self) -> bool:
        """Whether a reader suspects acute leukaemia."""
        return bool((self.result or {}).get("reader_suspects"))

    @property
    def raised_by_reader(self) -> bool:
        """Whether the case is critical by a reader's word alone."""
        return self.reader_suspects and self.model_urgency != "critical"


class FrameRow(Table):
    """One frame whose image is in the image store."""

    __tablename__ = "frames"
    __table_args__ = (
        Index("ix_frames_of_case", "case_id", "captured_at"),
        Index("ix_frames_numbers", "site", "device", "sequence"),
        Index(
            "ix_frames_waiting",
            "case_id",
            sqlite_where=text("recorded_at IS NULL"),
            postgresql_where=text("recorded_at IS NULL"),
        ),
    )

    frame_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"))
    site: Mapped[str] = mapped_column(String(48))
    device: Mapped[str] = mapped_column(String(48))
    priority: Mapped[str] = mapped_column(String(10))
    sequence: Mapped[int] = mapped_column(BigInteger)
    captured_at: Mapped[datetime]
    received_at: Mapped[datetime]
    recorded_at: Mapped[datetime | None] = mapped_column(default=None, index=True)
    encoding: Mapped[str] = mapped_column(String(5))
    width: Mapped[int]
    height: Mapped[int]
    pixel_size_um: Mapped[float | None]
    exposure_ms: Mapped[float | None]
    focus_um: Mapped[float | None]
    stage_x_um: Mapped[float | None]
    stage_y_um: Mapped[float | None]
    capture_ms: Mapped[float]
    quality: Mapped[dict[str, Any]]
    simulated: Mapped[bool]
    image_sha256: Mapped[str] = mapped_column(String(64), index=True)
    image_bytes: Mapped[int] = mapped_column(Integer)

    case: Mapped[CaseRow] = relationship()
    diagnoses: Mapped[list["DiagnosisRow"]] = relationship(
        primaryjoin="FrameRow.frame_id == foreign(DiagnosisRow.frame_id)",
        order_by="DiagnosisRow.id",
        viewonly=True,
    )


class DiagnosisRow(Table):
    """What one model said of one frame. No foreign key to the frame: a diagnosis may come before its image."""

    __tablename__ = "diagnoses"
    __table_args__ = (UniqueConstraint("frame_id", "weights_sha256"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    frame_id: Mapped[str] = mapped_column(String(32), index=True)
    weights_sha256: Mapped[str] = mapped_column(String(64))
    joined: Mapped[bool] = mapped_column(default=False, index=True, doc="its image is in the record")
    case_code: Mapped[str] = mapped_column(String(40))
    site: Mapped[str] = mapped_column(String(48))
    device: Mapped[str] = mapped_column(String(48))
    worker: Mapped[str] = mapped_column(String(48))
    diagnosed_at: Mapped[datetime]
    received_at: Mapped[datetime]
    model: Mapped[dict[str, Any]]
    probabilities: Mapped[dict[str, Any]]
    prediction: Mapped[str] = mapped_column(String(10))
    prediction_set: Mapped[list[Any]]
    decision: Mapped[str] = mapped_column(String(10))
    reasons: Mapped[list[Any]]
    quality: Mapped[dict[str, Any]]
    ood_score: Mapped[float]
    ood_threshold: Mapped[float]
    activation: Mapped[list[Any]]
    activation_absent: Mapped[str] = mapped_column(
        Text, default="", server_default="", doc="why there is no map; the grid is then all zero"
    )
    finer: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), default=None)
    timings: Mapped[dict[str, Any]]
    image_sha256: Mapped[str] = mapped_column(String(64))
    simulated: Mapped[bool]


class RejectionRow(Table):
    """A dead letter, once, however often it was announced."""

    __tablename__ = "rejections"
    __table_args__ = (Index("ix_rejections_known", "site", "device", "payload_sha256", "code"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    frame_id: Mapped[str | None] = mapped_column(String(32), index=True)
    case_code: Mapped[str | None] = mapped_column(String(40))
    site: Mapped[str] = mapped_column(String(48))
    device: Mapped[str] = mapped_column(String(48))
    sequence: Mapped[int | None] = mapped_column(BigInteger, default=None)
    code: Mapped[str] = mapped_column(String(40))
    reason: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(BigInteger)
    payload_bytes: Mapped[int] = mapped_column(BigInteger)
    payload_sha256: Mapped[str] = mapped_column(String(64))
    worker: Mapped[str] = mapped_column(String(48))
    at: Mapped[datetime]
    received_at: Mapped[datetime]
    announced: Mapped[int] = mapped_column(default=1)


class DeviceRow(Table):
    """The last state of an edge device."""

    __tablename__ = "devices"

    site: Mapped[str] = mapped_column(String(48), primary_key=True)
    device: Mapped[str] = mapped_column(String(48), primary_key=True)
    birth: Mapped[int] = mapped_column(BigInteger)
    presence: Mapped[str] = mapped_column(String(10))
    heard_at: Mapped[datetime] = mapped_column(doc="by this machine's clock, never the sender's")
    seen_at: Mapped[datetime | None] = mapped_column(
        default=None, doc="the last sign of life that is no state"
    )
    live: Mapped[bool] = mapped_column(default=True, server_default="1", doc="false: known only as retained")
    state: Mapped[dict[str, Any]]


class WorkerRow(Table):
    """The last state of a worker."""

    __tablename__ = "workers"

    worker: Mapped[str] = mapped_column(String(48), primary_key=True)
    birth: Mapped[int] = mapped_column(BigInteger)
    presence: Mapped[str] = mapped_column(String(10))
    heard_at: Mapped[datetime] = mapped_column(doc="by this machine's clock, never the sender's")
    seen_at: Mapped[datetime | None] = mapped_column(
        default=None, doc="the last sign of life that is no state"
    )
    live: Mapped[bool] = mapped_column(default=True, server_default="1", doc="false: known only as retained")
    state: Mapped[dict[str, Any]]


class LedgerRow(Table):
    """How a device's frames are numbered, as far as the record was told; see `clinician_dashboard.record.ledger`."""

    __tablename__ = "ledgers"

    site: Mapped[str] = mapped_column(String(48), primary_key=True)
    device: Mapped[str] = mapped_column(String(48), primary_key=True)
    generation: Mapped[int] = mapped_column(default=0, doc="rises when the device begins to number anew")
    base: Mapped[int] = mapped_column(BigInteger, doc="the first number that this record answers for")
    top: Mapped[int] = mapped_column(BigInteger, doc="one above the highest number heard of")
    declared: Mapped[int | None] = mapped_column(BigInteger, default=None, doc="the device's own next number")
    held: Mapped[int] = mapped_column(BigInteger, default=0, doc="frames in its spool when it said so")
    parked: Mapped[int] = mapped_column(BigInteger, default=0, doc="frames that wait for a person there")
    oldest: Mapped[int | None] = mapped_column(BigInteger, default=None, doc="the lowest number in its spool")


class GapRow(Table):
    """Numbers of a device that were neither recorded nor told as a dead letter, as one range."""

    __tablename__ = "gaps"

    site: Mapped[str] = mapped_column(String(48), primary_key=True)
    device: Mapped[str] = mapped_column(String(48), primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    first: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    last: Mapped[int] = mapped_column(BigInteger)
    opened_at: Mapped[datetime]


class TallyRow(Table):
    """A counter that survives restarts: malformed messages by code, repeats, conflicts."""

    __tablename__ = "tallies"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    code: Mapped[str] = mapped_column(String(40), primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger, default=0)
    last_at: Mapped[datetime]
    last_detail: Mapped[str] = mapped_column(Text, default="")


class RecordInfo(Table):
    """What this record is; one row."""

    __tablename__ = "record_info"

    version: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]
