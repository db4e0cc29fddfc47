"""A signed version of a case: what exactly was signed, under one hash. It never changes; reports are made from it.

The hash is the SHA-256 of the content's canonical JSON: keys sorted, no spaces, ASCII only. The content names the case, each
frame by the hash of its image, the models by the hash of their weights, the readers' conclusions, the signer, the time, and
the hash of the version that it amends; so whoever holds the content can compute it again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.review.tables import SignedVersionRow

FORM = 1
"""Of the content; a later release that adds fields counts it up."""


def canonical_sha256(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a content's canonical JSON, in hexadecimal digits."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class SignedFrame:
    """A frame as it was signed.

    Attributes:
        state: ``report``, ``refer``, ``waiting`` or ``refused``, at that moment.
        label: The class that a reader gave it, not_assessable, or empty.
    """

    frame_id: str
    image_sha256: str
    weights_sha256: str
    state: str
    label: str
    label_reason: str
    labelled_by: str


@dataclass(frozen=True)
class SignedReading:
    """What one reader concluded in the round that was signed."""

    stage: str
    reader: str
    reader_name: str
    conclusion: str
    finer: str
    reason: str
    comment: str
    differs: bool | None
    blind: bool
    at: str


@dataclass(frozen=True)
class SignedVersion:
    """One signed version.

    Attributes:
        version: From 1.
        status: ``final`` for the first, ``amended`` for later ones.
        conclusion: A code of `clinician_dashboard.review.conclusions.CONCLUSIONS`.
        finer: A finer label within it, or empty.
        conclusion_words: Both, for people.
        comment: The signer's free text; escape it wherever it is shown.
        reason: Code of why it differs from the model, or empty.
        agrees: With the model; none where the model did not answer.
        model: The model's result at that moment: ``headline``, ``urgency``, ``decision``, ``leading``, ``shares``,
            ``counted``, ``referred``, ``revision``.
        call: The critical call, or none: ``told_role``, ``told_code``, ``called_at``, ``called_by``, ``read_back``,
            ``closed_how``, ``note``, ``acknowledged_by``, ``acknowledged_at``.
        warnings: What the signer was warned of and accepted, in words.
        amends_sha256: Hash of the version before; empty for the first.
        content: What was hashed, whole.
        sha256: The hash.
    """

    case_id: int
    site: str
    code: str
    version: int
    status: Literal["final", "amended"]
    conclusion: str
    finer: str
    conclusion_words: str
    comment: str
    reason: str
    agrees: bool | None
    model: Mapping[str, Any]
    signer: str
    signer_name: str
    signer_role: str
    signed_at: datetime
    readings: Sequence[SignedReading]
    frames: Sequence[SignedFrame]
    models: Sequence[Mapping[str, Any]]
    call: Mapping[str, Any] | None
    warnings: Sequence[str]
    amend_reason: str
    amends_sha256: str
    simulated: bool
    content: Mapping[str, Any]
    sha256: str

    @property
    def genuine(self) -> bool:
        """Whether the content still has the hash that it was signed under."""
        return canonical_sha256(self.content) == self.sha256


def from_row(row: SignedVersionRow) -> SignedVersion:
    """Return a signed version as the record holds it."""
    content = row.content
    return SignedVersion(
        case_id=row.case_id,
        site=content["case"]["site"],
        code=content["case"]["code"],
        version=row.version,
        status=cast("Literal['final', 'amended']", row.status),
        conclusion=content["conclusion"]["code"],
        finer=content["conclusion"]["finer"],
        conclusion_words=content["conclusion"]["words"],
        comment=content["conclusion"]["comment"],
        reason=content["conclusion"]["reason"],
        agrees=content["conclusion"]["agrees"],
        model=content["model"],
        signer=content["signer"]["name"],
        signer_name=content["signer"]["full_name"],
        signer_role=content["signer"]["role"],
        signed_at=row.signed_at,
        readings=tuple(SignedReading(**one) for one in content["readings"]),
        frames=tuple(SignedFrame(**one) for one in content["frames"]),
        models=tuple(content["models"]),
        call=content["call"],
        warnings=tuple(content["warnings"]),
        amend_reason=content["amend_reason"],
        amends_sha256=content["amends_sha256"],
        simulated=content["case"]["simulated"],
        content=content,
        sha256=row.sha256,
    )


def signed_versions(session: Session, case_id: int) -> tuple[SignedVersion, ...]:
    """Return every signed version of a case, the first one first."""
    rows = session.scalars(
        select(SignedVersionRow).where(SignedVersionRow.case_id == case_id).order_by(SignedVersionRow.version)
    )
    return tuple(from_row(row) for row in rows)


def latest_signed(session: Session, case_id: int) -> SignedVersion | None:
    """Return the latest signed version of a case, or none."""
    row = session.scalar(
        select(SignedVersionRow)
        .where(SignedVersionRow.case_id == case_id)
        .order_by(SignedVersionRow.version.desc())
        .limit(1)
    )
    return from_row(row) if row is not None else None


def signed_version(session: Session, site: str, code: str, version: int) -> SignedVersion | None:
    """Return one signed version of a case, or none."""
    row = session.scalar(
        select(SignedVersionRow)
        .join(CaseRow, CaseRow.id == SignedVersionRow.case_id)
        .where(CaseRow.site == site, CaseRow.code == code, SignedVersionRow.version == version)
    )
    return from_row(row) if row is not None else None
