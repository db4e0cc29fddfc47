"""Checking the audit: every row against its own hash and the row before it, and the newest against the anchor.

A row that was changed no longer has its hash; one that was removed or put in breaks the numbers or the chain. Whoever
computes every hash anew from there on breaks what the anchor says, unless the anchor is replaced too: keep its line
elsewhere, and check with it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from clinician_dashboard.audit.anchor import FILE, Anchor, read_anchor
from clinician_dashboard.audit.chain import BEGINNING, digest_of
from clinician_dashboard.audit.tables import AuditRow

BATCH: Final = 2000
MAX_TOLD: Final = 20


@dataclass
class AuditVerdict:
    """What was found.

    Attributes:
        rows: How many rows were looked at.
        faults: What is wrong, each as a sentence; the first 20.
        fault_count: How many there are.
        anchor: What the file beside the record says; none if there is none.
        head: The newest row: keep this line elsewhere.
        note: What could not be checked.
    """

    rows: int = 0
    faults: list[str] = field(default_factory=list)
    fault_count: int = 0
    anchor: Anchor | None = None
    head: Anchor = field(default_factory=lambda: Anchor(0, BEGINNING))
    note: str = ""

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return self.fault_count == 0

    def blame(self, fault: str) -> None:
        """Add a fault."""
        self.fault_count += 1
        if len(self.faults) < MAX_TOLD:
            self.faults.append(fault)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain fields."""
        return {
            "sound": self.sound,
            "rows": self.rows,
            "faults": self.faults,
            "fault_count": self.fault_count,
            "anchor": str(self.anchor) if self.anchor else None,
            "head": str(self.head),
            "note": self.note,
        }


def verify_audit(
    session: Session,
    directory: Path,
    *,
    at: Anchor | None = None,
    progress: Callable[[int, int], None] = lambda _done, _whole: None,
) -> AuditVerdict:
    """Look at every row.

    Args:
        session: Reads the record as it was at one moment.
        directory: The record's folder, with the anchor.
        at: A line that was kept elsewhere, to be checked too.
        progress: Called with the rows looked at and the number of all.
    """
    verdict = AuditVerdict()
    anchors = _anchors(verdict, directory, at)
    wanted = {anchor.number for _, anchor in anchors}
    seen: dict[int, str] = {0: BEGINNING}
    whole = session.scalar(select(func.count()).select_from(AuditRow)) or 0
    last = Anchor(0, BEGINNING)
    for row in _rows(session):
        verdict.rows += 1
        if isinstance(row, _Unreadable):
            verdict.blame(f"row {row.number} cannot be read ({row.why}): it was changed")
            last = Anchor(row.number, "")
            continue
        _check(row, last, verdict)
        last = Anchor(row.number, row.sha256)
        if row.number in wanted:
            seen[row.number] = row.sha256
        if verdict.rows % BATCH == 0:
            progress(verdict.rows, whole)
    progress(verdict.rows, verdict.rows)
    verdict.head = last
    for name, anchor in anchors:
        if anchor.number > last.number:
            verdict.blame(
                f"the end is cut off: {name} knows of row {anchor.number}, and the last one is {last.number}"
            )
        elif seen.get(anchor.number) != anchor.sha256:
            verdict.blame(f"row {anchor.number} is another than {name} says: the chain was computed anew")
    if verdict.anchor is None and verdict.rows and not verdict.faults:
        verdict.note = f"there is no {FILE} beside the record, as after a restore: whether the end was cut off is not known"
    return verdict


def _anchors(verdict: AuditVerdict, directory: Path, at: Anchor | None) -> list[tuple[str, Anchor]]:
    """Return what the rows are held against. Read before the rows: what is added meanwhile is behind it, and not missing."""
    anchors: list[tuple[str, Anchor]] = []
    try:
        verdict.anchor = read_anchor(directory)
    except (OSError, ValueError) as error:
        verdict.blame(f"{directory / FILE} cannot be used ({error}): the end of the audit is not checked")
    if verdict.anchor is not None:
        anchors.append(("the anchor beside the record", verdict.anchor))
    if at is not None:
        anchors.append(("the line that was kept", at))
    return anchors


def _check(row: AuditRow, last: Anchor, verdict: AuditVerdict) -> None:
    at = f"{row.at:%Y-%m-%d %H:%M:%S} UTC" if row.at else "no time"
    what = f"row {row.number} ({at}, {row.actor}, {row.action} {row.subject})"
    if row.number != last.number + 1:
        gone = (
            f"row {last.number + 1}"
            if row.number == last.number + 2
            else f"rows {last.number + 1} to {row.number - 1}"
        )
        verdict.blame(f"{gone} removed: {what} follows row {last.number}")
    elif row.previous_sha256 != last.sha256:
        verdict.blame(f"the chain is broken before {what}: the row before it was changed, or put in later")
    try:
        changed = digest_of(row) != row.sha256
    except (ValueError, TypeError, AttributeError):
        changed = True
    if changed:
        verdict.blame(f"{what} was changed")


@dataclass(frozen=True)
class _Unreadable:
    """A row that the database gives and that no row can be."""

    number: int
    why: str


def _rows(session: Session) -> Iterator[AuditRow | _Unreadable]:
    after = -(2**62)
    while True:
        numbers = session.scalars(
            select(AuditRow.number).where(AuditRow.number > after).order_by(AuditRow.number).limit(BATCH)
        ).all()
        if not numbers:
            return
        wanted = select(AuditRow).where(AuditRow.number > after, AuditRow.number <= numbers[-1])
        try:
            yield from session.scalars(wanted.order_by(AuditRow.number)).all()
        except (ValueError, TypeError):
            session.expunge_all()
            for number in numbers:
                yield _row(session, number)
        after = numbers[-1]
        session.expunge_all()


def _row(session: Session, number: int) -> AuditRow | _Unreadable:
    try:
        return session.scalars(select(AuditRow).where(AuditRow.number == number)).one()
    except (ValueError, TypeError) as error:
        return _Unreadable(number, type(error).__name__)
