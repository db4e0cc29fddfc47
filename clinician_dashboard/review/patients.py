"""Which cases are of one patient, by an opaque code that the clinic gives: earlier smears beside the present one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from clinician_dashboard.record.desk_tables import CaseCountRow
from clinician_dashboard.record.tables import CaseRow, FrameRow
from clinician_dashboard.review.acting import Acting
from clinician_dashboard.review.conclusions import words_of
from clinician_dashboard.review.errors import Unusable
from clinician_dashboard.review.tables import ReviewRow

MOST = 20
PICTURES = 3
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


@dataclass(frozen=True)
class Prior:
    """Another smear of the same patient.

    Attributes:
        case: Its row.
        status: ``preliminary``, ``final`` or ``amended``.
        conclusion: What was signed, in words; empty while nothing is.
        signed_at: When.
        frames: Ids of a few of its frames, for pictures.
        why: ``patient`` or ``code``: what the two cases share.
    """

    case: CaseRow
    status: str
    conclusion: str
    signed_at: datetime | None
    frames: tuple[str, ...]
    why: str


def name_patient(act: Acting, patient_code: str) -> None:
    """Give the case the clinic's own opaque code of its patient; empty takes it away.

    Raises:
        Unusable: If it is no opaque code.
    """
    code = patient_code.strip()
    if code and not _CODE.fullmatch(code):
        raise Unusable(
            "A patient code is opaque: 1 to 40 letters, digits, '.', '_' and '-'. No name, no date of birth."
        )
    before, act.review.patient_code = act.review.patient_code, code or None
    act.changed("case.patient", before=before or "", after=code)


def prior_smears(session: Session, case: CaseRow) -> Sequence[Prior]:
    """Return up to 20 other smears of the same patient code at this site, or of the same case code elsewhere, the latest first."""
    own = session.get(ReviewRow, case.id)
    patient = own.patient_code if own is not None else None
    # Two queries, each on an index: together in one condition they would walk every case.
    sites = session.scalars(select(CaseCountRow.site).distinct()).all()
    found = set(session.scalars(select(CaseRow.id).where(CaseRow.site.in_(sites), CaseRow.code == case.code)))
    if patient:
        same = (
            select(ReviewRow.case_id)
            .join(CaseRow, CaseRow.id == ReviewRow.case_id)
            .where(ReviewRow.patient_code == patient, CaseRow.site == case.site)
            .order_by(CaseRow.opened_at.desc())
            .limit(MOST + 1)
        )
        found |= set(session.scalars(same))
    found.discard(case.id)
    if not found:
        return []
    rows = session.execute(
        select(CaseRow, ReviewRow)
        .outerjoin(ReviewRow, ReviewRow.case_id == CaseRow.id)
        .where(CaseRow.id.in_(found))
        .order_by(CaseRow.opened_at.desc())
        .limit(MOST)
    ).all()
    return [_prior(session, other, review, case) for other, review in rows]


def _prior(session: Session, other: CaseRow, review: ReviewRow | None, case: CaseRow) -> Prior:
    frames = session.scalars(
        select(FrameRow.frame_id)
        .where(FrameRow.case_id == other.id, FrameRow.recorded_at.is_not(None))
        .order_by(FrameRow.captured_at)
        .limit(PICTURES)
    ).all()
    signed = review is not None and review.signed_version > 0
    return Prior(
        case=other,
        status=review.status if review is not None else "preliminary",
        conclusion=words_of(review.signed_conclusion or "") if review is not None and signed else "",
        signed_at=review.signed_at if review is not None else None,
        frames=tuple(frames),
        why="code" if other.code == case.code else "patient",
    )
