"""Reading the audit: filtered and by pages, the newest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from clinician_dashboard.audit.tables import AuditRow

COUNTED: Final = 10_000
"""Matches are counted up to here, so that a page costs the same in any audit."""


@dataclass(frozen=True)
class Filter:
    """What of the audit is asked for; empty fields ask for nothing.

    Attributes:
        who: The login, or the name of a token.
        what: An action, such as ``case.sign``, or the noun of one, such as ``case``.
        subject: A subject, such as ``case:site/CODE``, or what it begins with.
        since: From this moment on.
        until: Before this moment.
    """

    who: str = ""
    what: str = ""
    subject: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def where(self) -> list[ColumnElement[bool]]:
        """Return the conditions."""
        found: list[ColumnElement[bool]] = []
        if self.who:
            found.append(AuditRow.actor == self.who.strip().lower())
        if self.what:
            what = self.what.strip()
            found.append(
                AuditRow.action == what
                if "." in what
                else AuditRow.action.startswith(f"{what}.", autoescape=True)
            )
        if self.subject:
            found.append(AuditRow.subject.startswith(self.subject.strip(), autoescape=True))
        if self.since is not None:
            found.append(AuditRow.at >= self.since)
        if self.until is not None:
            found.append(AuditRow.at < self.until)
        return found


@dataclass(frozen=True)
class Page:
    """Some rows of the audit.

    Attributes:
        rows: The newest first.
        matching: How many match, counted up to `COUNTED`.
        before: The number to ask for the next page with; none on the last one.
    """

    rows: Sequence[AuditRow]
    matching: int
    before: int | None


def read_page(session: Session, wanted: Filter, *, before: int | None, limit: int) -> Page:
    """Return the rows older than ``before``, at most ``limit``."""
    where = wanted.where()
    older = [AuditRow.number < before] if before is not None else []
    rows = session.scalars(
        select(AuditRow).where(*where, *older).order_by(AuditRow.number.desc()).limit(limit + 1)
    ).all()
    matching = (
        session.scalar(
            select(func.count()).select_from(select(AuditRow.number).where(*where).limit(COUNTED).subquery())
        )
        or 0
    )
    more = len(rows) > limit
    return Page(rows[:limit], matching, rows[limit - 1].number if more else None)


def fields_of(row: AuditRow) -> dict[str, Any]:
    """Return a row as plain fields."""
    names = (
        "number",
        "at",
        "actor",
        "role",
        "via",
        "action",
        "subject",
        "details",
        "previous_sha256",
        "sha256",
    )
    return {name: getattr(row, name) for name in names}
