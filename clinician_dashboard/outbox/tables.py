"""The table of messages that are to go out."""

from datetime import datetime

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from clinician_dashboard.record.tables import Table


class OutboxRow(Table):
    """One message that the broker has not acknowledged yet."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    site: Mapped[str] = mapped_column(String(48))
    device: Mapped[str] = mapped_column(String(48))
    key: Mapped[str] = mapped_column(
        String(200), default="", index=True, doc="a later one of the same key takes its place"
    )
    payload: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
