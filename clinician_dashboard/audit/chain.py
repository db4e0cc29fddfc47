"""Adding to the audit: each row carries the SHA-256 of its own fields and of the row before it.

A row that is changed, removed or put in later breaks the chain there. Rows are added in the transaction of what they tell
of, so neither is without the other.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from clinician_dashboard.access.roles import Actor
from clinician_dashboard.audit.anchor import follow
from clinician_dashboard.audit.tables import AuditRow

BEGINNING: Final = "0" * 64
"""What the first row names as the row before it."""
_TURN: Final = 0x61756469  # key of PostgreSQL's lock, for the length of a transaction


def append(
    session: Session, *, actor: Actor, action: str, subject: str, at: datetime, **details: Any
) -> AuditRow:
    """Add a row to the audit.

    Args:
        session: Within `Record.transaction`; the row is committed with the rest.
        actor: Who did it.
        action: What was done: a noun and a verb, such as ``case.sign``.
        subject: What it was done to, such as ``case:site-a/HL-0001``.
        at: When, in UTC.
        details: More, as JSON; no password, no secret, no name of a patient.
    """
    session.flush()
    if session.get_bind().dialect.name == "postgresql":  # a command may write beside the dashboard: no forks
        session.execute(select(func.pg_advisory_xact_lock(_TURN)))
    last = session.execute(
        select(AuditRow.number, AuditRow.sha256).order_by(AuditRow.number.desc()).limit(1)
    ).first()
    row = AuditRow(
        number=last.number + 1 if last else 1,
        at=at,
        actor=actor.name,
        role=actor.role,
        via=actor.via,
        action=action,
        subject=subject,
        details=json.loads(json.dumps(details)),  # as it will be read back
        previous_sha256=last.sha256 if last else BEGINNING,
        sha256="",
    )
    row.sha256 = digest_of(row)
    follow(session, row)
    session.add(row)
    session.flush()
    return row


def digest_of(row: AuditRow) -> str:
    """Return the SHA-256 that ``row`` must carry, over the canonical JSON of its fields."""
    fields: Mapping[str, Any] = {
        "number": row.number,
        "at": row.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": row.actor,
        "role": row.role,
        "via": row.via,
        "action": row.action,
        "subject": row.subject,
        "details": row.details,
        "previous_sha256": row.previous_sha256,
    }
    return hashlib.sha256(
        json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    ).hexdigest()
