"""The audit's anchor: a small file beside the record that names the newest row, so that a cut-off tail is noticed.

It is written after each commit that added to the audit, durably. It shows that rows which it knew of are gone. It cannot
show more than that: who can write both the database and this file can cut both. Who must rule that out keeps the anchor's
line elsewhere too: ``hemolink dashboard verify-audit --json`` prints it, and ``--at`` checks a line that was kept.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import event, select
from sqlalchemy.orm import Session

from broker_config.process import write_durably
from clinician_dashboard.audit.tables import AuditRow

logger = logging.getLogger(__name__)

FILE: Final = "audit.head.json"


@dataclass(frozen=True)
class Anchor:
    """The newest row of the audit at some moment.

    Attributes:
        number: Of the row; 0 while there is none.
        sha256: Of the row.
    """

    number: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.number}:{self.sha256}"

    @classmethod
    def parse(cls, text: str) -> "Anchor":
        """Return the anchor in a line that `str` made.

        Raises:
            ValueError: If it is none.
        """
        number, colon, sha256 = text.strip().partition(":")
        if not (colon and number.isdecimal() and len(sha256) == 64):  # noqa: PLR2004 - hexadecimal digits of SHA-256
            raise ValueError("not an anchor: a number, a colon and 64 hexadecimal digits")
        return cls(int(number), sha256)


def read_anchor(directory: Path) -> Anchor | None:
    """Return the anchor beside a record, none where there is no file.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it holds something else.
    """
    try:
        found = json.loads((directory / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    try:
        return Anchor.parse(f"{found['number']}:{found['sha256']}")
    except (KeyError, TypeError):
        raise ValueError("not an anchor") from None


def write_anchor(directory: Path, anchor: Anchor) -> None:
    """Replace the anchor beside a record, durably.

    Raises:
        OSError: If it cannot be written.
    """
    content = json.dumps({"number": anchor.number, "sha256": anchor.sha256})
    write_durably(directory / FILE, (content + "\n").encode())


def is_on_chain(session: Session, anchor: Anchor) -> bool:
    """Return whether the audit still has the row that an anchor names, as it was."""
    if anchor.number == 0:
        return True
    return session.scalar(select(AuditRow.sha256).where(AuditRow.number == anchor.number)) == anchor.sha256


def follow(session: Session, row: AuditRow) -> None:
    """Write the anchor once the transaction that added ``row`` is committed.

    Where the anchor names a row that is no longer there, it stays as it is: it is the evidence.
    """
    directory: Any = session.info.get("directory")
    if directory is None:
        return
    if "anchor" not in session.info:
        session.info["anchor_holds"] = _holds(session, directory)
    session.info["anchor"] = Anchor(row.number, row.sha256)
    if not session.info.get("anchored"):
        session.info["anchored"] = True
        event.listen(session, "after_commit", _write)
        event.listen(session, "after_rollback", _forget)


def _holds(session: Session, directory: Path) -> bool:
    try:
        known = read_anchor(directory)
    except (OSError, ValueError) as error:
        logger.error("%s cannot be read (%s): run 'hemolink dashboard verify-audit'", directory / FILE, error)  # noqa: TRY400
        return False
    if known is None or is_on_chain(session, known):
        return True
    logger.error(
        "the audit no longer has row %d as it was written: run 'hemolink dashboard verify-audit'",
        known.number,
    )
    return False


def _write(session: Session) -> None:
    if session.in_nested_transaction():
        return
    anchor: Anchor | None = session.info.pop("anchor", None)
    if anchor is None or not session.info["anchor_holds"]:
        return
    directory: Path = session.info["directory"]
    try:
        write_anchor(directory, anchor)
    except OSError as error:  # the row is committed; the next one writes the anchor
        logger.warning(
            "%s cannot be written (%s): make room, or let the dashboard write there",
            directory / FILE,
            error.strerror or error,
        )


def _forget(session: Session) -> None:
    session.info.pop("anchor", None)
