"""The table of reports that are to go out, and of those that went."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from clinician_dashboard.record.tables import Table


class DeliveryRow(Table):
    """One report for one target: the preliminary one of a case, of which the newest state counts, or a signed version."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("target", "case_id", "version"),
        Index("ix_deliveries_due", "target", "state", "due_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    target: Mapped[str] = mapped_column(String(20), doc="fhir or mllp")
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"), index=True)
    site: Mapped[str] = mapped_column(String(48))
    code: Mapped[str] = mapped_column(String(40))
    version: Mapped[int] = mapped_column(doc="the signed version; 0: preliminary")
    revision: Mapped[int] = mapped_column(default=0, doc="of the case, as far as it is to be told")
    status: Mapped[str] = mapped_column(String(12), doc="preliminary, final or amended")
    state: Mapped[str] = mapped_column(String(12), doc="waiting, sent, parked or passed_over")
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    due_at: Mapped[datetime]
    sent_at: Mapped[datetime | None] = mapped_column(default=None)
    fault: Mapped[str] = mapped_column(Text, default="", doc="why it did not arrive the last time")
