"""What the worklist and the operators' pages read instead of walking the whole record; kept as the record changes."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from clinician_dashboard.record.tables import Table

BYTEWISE = String(40).with_variant(String(40, collation="C"), "postgresql")
"""Compared by its bytes on every database, so that a range of words is the same everywhere."""


class CaseCountRow(Table):
    """How many cases are of one kind, so that nobody counts 100,000 of them for a page."""

    __tablename__ = "case_counts"

    site: Mapped[str] = mapped_column(String(48), primary_key=True)
    urgency: Mapped[str] = mapped_column(String(10), primary_key=True)
    status: Mapped[str] = mapped_column(String(12), primary_key=True)
    leading: Mapped[str] = mapped_column(String(10), primary_key=True, doc="empty where there is none")
    simulated: Mapped[bool] = mapped_column(primary_key=True)
    cases: Mapped[int] = mapped_column(default=0)


class DeviceCountRow(Table):
    """The same by microscope; a case with frames of several is counted under each, so that these are never added up."""

    __tablename__ = "device_counts"

    device: Mapped[str] = mapped_column(String(48), primary_key=True)
    site: Mapped[str] = mapped_column(String(48), primary_key=True)
    urgency: Mapped[str] = mapped_column(String(10), primary_key=True)
    status: Mapped[str] = mapped_column(String(12), primary_key=True)
    leading: Mapped[str] = mapped_column(String(10), primary_key=True, doc="empty where there is none")
    cases: Mapped[int] = mapped_column(default=0)


class CaseWordRow(Table):
    """Every ending of a case code, lower case: what stands anywhere in a code stands at the beginning of one of them."""

    __tablename__ = "case_words"
    __table_args__ = ({"sqlite_with_rowid": False},)

    word: Mapped[str] = mapped_column(BYTEWISE, primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"), primary_key=True, autoincrement=False)


class CaseDeviceRow(Table):
    """Which microscopes a case has frames from, with the case's place in the order and all that is counted by microscope.

    A page of one microscope is thus a range of one index, however few cases it has and however far behind they stand.
    """

    __tablename__ = "case_devices"
    __table_args__ = (
        Index(
            "ix_case_devices_place", "device", "place", "opened_at", "case_id", "status", "site", "leading"
        ),
        {"sqlite_with_rowid": False},
    )

    device: Mapped[str] = mapped_column(String(48), primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"), primary_key=True, autoincrement=False)
    place: Mapped[int]
    opened_at: Mapped[datetime]
    status: Mapped[str] = mapped_column(String(12))
    site: Mapped[str] = mapped_column(String(48))
    leading: Mapped[str] = mapped_column(String(10), doc="empty where there is none")


class DayRow(Table):
    """Sums over the diagnoses that one model made of one microscope's frames on one day, by this machine's clock in UTC."""

    __tablename__ = "days"
    __table_args__ = (Index("ix_days_of_model", "weights_sha256", "day"),)

    day: Mapped[str] = mapped_column(String(10), primary_key=True, doc="such as 2026-11-23")
    site: Mapped[str] = mapped_column(String(48), primary_key=True)
    device: Mapped[str] = mapped_column(String(48), primary_key=True)
    weights_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    frames: Mapped[int] = mapped_column(default=0)
    referred: Mapped[int] = mapped_column(default=0)
    unlike: Mapped[int] = mapped_column(
        default=0, doc="frames whose out-of-distribution score is over its limit"
    )
    top_sum: Mapped[float] = mapped_column(default=0.0)
    top_squares: Mapped[float] = mapped_column(default=0.0)
    ood_sum: Mapped[float] = mapped_column(default=0.0, doc="of the score as a share of its limit")
    ood_squares: Mapped[float] = mapped_column(default=0.0)
    quality_sum: Mapped[float] = mapped_column(default=0.0, doc="of the frames' weights")
    quality_squares: Mapped[float] = mapped_column(default=0.0)


class ReadingDayRow(Table):
    """How often readers came to another conclusion than the model on one day, at one site."""

    __tablename__ = "reading_days"

    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    site: Mapped[str] = mapped_column(String(48), primary_key=True)
    device: Mapped[str] = mapped_column(String(48), primary_key=True, doc="the case's only one, or empty")
    weights_sha256: Mapped[str] = mapped_column(
        String(64), primary_key=True, doc="the case's only one, or empty"
    )
    read: Mapped[int] = mapped_column(default=0, doc="first readings of cases that the model answered for")
    overridden: Mapped[int] = mapped_column(default=0)


class ModelRow(Table):
    """A model version that has answered here, and whether its answers may be used."""

    __tablename__ = "models"

    weights_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    version: Mapped[str] = mapped_column(Text)
    simulated: Mapped[bool] = mapped_column(default=False)
    first_at: Mapped[datetime]
    stopped_at: Mapped[datetime | None] = mapped_column(default=None)
    changed_by: Mapped[str | None] = mapped_column(String(80), default=None)
    reason: Mapped[str] = mapped_column(Text, default="")
    generation: Mapped[int] = mapped_column(default=0, doc="rises with each stop and start")
    applied: Mapped[int] = mapped_column(default=0, doc="the generation that every case's result follows")
    through: Mapped[int] = mapped_column(BigInteger, default=0, doc="cases up to this one follow it already")
