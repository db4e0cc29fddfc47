"""The table of the audit."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from clinician_dashboard.record.tables import Table


class AuditRow(Table):
    """One thing that somebody did. Rows are only ever added; each names the hash of the one before."""

    __tablename__ = "audit"

    number: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False, doc="from 1, without gaps"
    )
    at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(String(80), index=True)
    role: Mapped[str] = mapped_column(String(20))
    via: Mapped[str] = mapped_column(String(10))
    action: Mapped[str] = mapped_column(String(60), index=True, doc="such as case.sign")
    subject: Mapped[str] = mapped_column(String(200), index=True, doc="such as case:site-a/HL-0001")
    details: Mapped[dict[str, Any]]
    previous_sha256: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(String(64))
