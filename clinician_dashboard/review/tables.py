"""The tables of the review."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from clinician_dashboard.record.tables import Table


class ReviewRow(Table):
    """How far the review of a case is; made when somebody first acts on it."""

    __tablename__ = "case_reviews"

    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"), primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(
        default=0, doc="rises with each act; a page of an older one is refused"
    )
    status: Mapped[str] = mapped_column(String(12), default="preliminary", index=True)
    claimed_by: Mapped[str | None] = mapped_column(String(80), default=None, index=True)
    claimed_name: Mapped[str | None] = mapped_column(String(200), default=None)
    claimed_at: Mapped[datetime | None] = mapped_column(default=None)
    claim_expires_at: Mapped[datetime | None] = mapped_column(default=None)
    signed_version: Mapped[int] = mapped_column(default=0)
    signed_at: Mapped[datetime | None] = mapped_column(default=None, index=True)
    signed_by: Mapped[str | None] = mapped_column(String(80), default=None)
    signed_conclusion: Mapped[str | None] = mapped_column(String(20), default=None)
    signed_frames: Mapped[int] = mapped_column(default=0)
    amend_needed: Mapped[bool] = mapped_column(default=False, doc="frames came after the signature")
    patient_code: Mapped[str | None] = mapped_column(
        String(40), default=None, index=True, doc="opaque; what it stands for stays in the clinic"
    )
    changed_at: Mapped[datetime]


class OpinionRow(Table):
    """What one reader concluded, once said never changed; a reader's later word is a row of its own."""

    __tablename__ = "opinions"
    __table_args__ = (Index("ix_opinions_of_case", "case_id", "round"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"))
    round: Mapped[int] = mapped_column(doc="the version that it prepares")
    stage: Mapped[str] = mapped_column(String(12), doc="impression, first, second or adjudication")
    reader: Mapped[str] = mapped_column(String(80))
    reader_name: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(20))
    at: Mapped[datetime] = mapped_column(index=True)
    conclusion: Mapped[str] = mapped_column(String(20))
    finer: Mapped[str] = mapped_column(String(20), default="")
    reason: Mapped[str] = mapped_column(String(20), default="", doc="why it differs from the model")
    comment: Mapped[str] = mapped_column(Text, default="")
    differs: Mapped[bool | None] = mapped_column(
        default=None, doc="from the model; none where it did not answer"
    )
    blind: Mapped[bool] = mapped_column(default=False, doc="the model's answer was hidden")
    alerted: Mapped[bool] = mapped_column(default=False, doc="a critical alert stood open, blind or not")
    model_decision: Mapped[str] = mapped_column(String(10))
    model_leading: Mapped[str | None] = mapped_column(String(10), default=None)
    models: Mapped[list[Any]]
    frames: Mapped[int] = mapped_column(doc="frames recorded at that moment")


class FrameMarkRow(Table):
    """What one reader did with one frame: opened it, and perhaps gave it a class."""

    __tablename__ = "frame_marks"
    __table_args__ = (Index("ix_frame_marks_of_case", "case_id"),)

    frame_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    reader: Mapped[str] = mapped_column(String(80), primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"))
    viewed_at: Mapped[datetime]
    label: Mapped[str | None] = mapped_column(String(20), default=None, doc="a class, or not_assessable")
    reason: Mapped[str] = mapped_column(String(20), default="")
    labelled_at: Mapped[datetime | None] = mapped_column(default=None)


class SignedVersionRow(Table):
    """One signed version of a case, never changed; the next one names its hash."""

    __tablename__ = "signed_versions"
    __table_args__ = (UniqueConstraint("case_id", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"))
    version: Mapped[int]
    status: Mapped[str] = mapped_column(String(12))
    signed_at: Mapped[datetime] = mapped_column(index=True)
    signer: Mapped[str] = mapped_column(String(80))
    content: Mapped[dict[str, Any]]
    sha256: Mapped[str] = mapped_column(String(64))


class CriticalCallRow(Table):
    """One critical alert of a case, from its opening until a person was told or a reader closed it."""

    __tablename__ = "critical_calls"
    __table_args__ = (
        Index("ix_critical_calls_of_case", "case_id"),
        Index("ix_critical_calls_open", "closed_at", "due_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"))
    cause: Mapped[str] = mapped_column(String(10), doc="model or reader")
    opened_at: Mapped[datetime]
    due_at: Mapped[datetime] = mapped_column(doc="unacknowledged by then, it is escalated")
    acknowledged_at: Mapped[datetime | None] = mapped_column(default=None)
    acknowledged_by: Mapped[str | None] = mapped_column(String(80), default=None)
    escalated_at: Mapped[datetime | None] = mapped_column(default=None)
    called_at: Mapped[datetime | None] = mapped_column(default=None)
    called_by: Mapped[str | None] = mapped_column(String(80), default=None)
    told_role: Mapped[str | None] = mapped_column(String(40), default=None)
    told_code: Mapped[str | None] = mapped_column(String(20), default=None, doc="of a member of staff")
    read_back: Mapped[bool] = mapped_column(default=False)
    note: Mapped[str] = mapped_column(Text, default="")
    closed_at: Mapped[datetime | None] = mapped_column(default=None)
    closed_by: Mapped[str | None] = mapped_column(String(80), default=None)
    closed_how: Mapped[str] = mapped_column(String(20), default="", doc="called, or not_critical")


class ReaderRow(Table):
    """What a reader chose for themselves."""

    __tablename__ = "readers"

    name: Mapped[str] = mapped_column(String(80), primary_key=True, doc="the login")
    blind: Mapped[bool] = mapped_column(default=False, doc="read before seeing the model's answer")
