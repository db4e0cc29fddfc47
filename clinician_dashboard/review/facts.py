"""What the record holds of one case for its review, read within one session."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, case, func, or_, select
from sqlalchemy.orm import Session

from clinician_dashboard.access.roles import Actor
from clinician_dashboard.record.case_summary import stopped_models
from clinician_dashboard.record.tables import CaseRow, DiagnosisRow, FrameRow, GapRow, LedgerRow, RejectionRow
from clinician_dashboard.review.conclusions import is_acute
from clinician_dashboard.review.errors import NoSuchCase
from clinician_dashboard.review.gates import FrameFacts, Gate, SignOff, gates
from clinician_dashboard.review.opinions import Reading, Standing, stand
from clinician_dashboard.review.tables import CriticalCallRow, FrameMarkRow, OpinionRow, ReviewRow


@dataclass(frozen=True)
class FrameFact:
    """One frame as the review sees it.

    Attributes:
        state: ``report``, ``refer``, ``waiting`` or ``refused``.
        flagged: Whether it must be seen before a signature.
        label: The class that a reader gave it last, or not assessable; none if nobody did.
        labelled_by: Who.
        viewed_by: Who opened it.
        alert: What the model says of a subtype that must not be missed; empty if nothing.
    """

    frame_id: str
    device: str
    sequence: int
    image_sha256: str
    weights_sha256: str
    state: str
    flagged: bool
    label: str | None = None
    label_reason: str = ""
    labelled_by: str = ""
    viewed_by: frozenset[str] = frozenset()
    alert: str = ""

    @property
    def unresolved(self) -> bool:
        """Whether the model referred it, and no reader has settled it."""
        return self.state in ("refer", "refused") and self.label is None


def find_case(session: Session, site: str, code: str) -> CaseRow:
    """Return a case.

    Raises:
        NoSuchCase: If there is none.
    """
    plain = all(part.isascii() and part.isprintable() for part in (site, code))
    found = (
        session.scalar(select(CaseRow).where(CaseRow.site == site, CaseRow.code == code)) if plain else None
    )
    if found is None:
        raise NoSuchCase("There is no such case in this record.")
    return found


def opinions_of(session: Session, case_id: int, *, round_: int | None = None) -> Sequence[OpinionRow]:
    """Return what readers said of a case, the earliest first; of one round only, where one is named."""
    where = [OpinionRow.case_id == case_id]
    if round_ is not None:
        where.append(OpinionRow.round == round_)
    return session.scalars(select(OpinionRow).where(*where).order_by(OpinionRow.id)).all()


def readings(rows: Sequence[OpinionRow]) -> list[Reading]:
    """Return opinions as the rules take them."""
    return [Reading(row.reader, row.stage, row.conclusion, row.differs) for row in rows]  # type: ignore[arg-type]


def calls_of(session: Session, case_id: int) -> Sequence[CriticalCallRow]:
    """Return the critical alerts of a case, the earliest first."""
    return session.scalars(
        select(CriticalCallRow).where(CriticalCallRow.case_id == case_id).order_by(CriticalCallRow.id)
    ).all()


def frames_of(session: Session, case_id: int) -> list[FrameFact]:
    """Return every frame of a case, in the order of capture."""
    latest = (
        select(func.max(case((DiagnosisRow.joined, DiagnosisRow.id))))
        .where(DiagnosisRow.frame_id == FrameRow.frame_id)
        .correlate(FrameRow)
        .scalar_subquery()
    )
    rows = session.execute(
        select(
            FrameRow.frame_id,
            FrameRow.device,
            FrameRow.sequence,
            FrameRow.image_sha256,
            FrameRow.quality,
            DiagnosisRow.weights_sha256,
            DiagnosisRow.decision,
            DiagnosisRow.quality.label("found"),
            DiagnosisRow.finer,
        )
        .outerjoin(DiagnosisRow, DiagnosisRow.id == latest)
        .where(FrameRow.case_id == case_id)
        .order_by(FrameRow.captured_at, FrameRow.sequence, FrameRow.frame_id)
    ).all()
    refused = set(
        session.scalars(
            select(FrameRow.frame_id)
            .join(RejectionRow, RejectionRow.frame_id == FrameRow.frame_id)
            .where(FrameRow.case_id == case_id, FrameRow.recorded_at.is_(None))
        )
    )
    marks: dict[str, list[FrameMarkRow]] = {}
    for mark in session.scalars(select(FrameMarkRow).where(FrameMarkRow.case_id == case_id)):
        marks.setdefault(mark.frame_id, []).append(mark)
    stopped = stopped_models(session)
    found = []
    for row in rows:
        # What a stopped model version says counts as referred, as it does in the case's result.
        decision = "refer" if row.decision and row.weights_sha256 in stopped else row.decision
        state = decision or ("refused" if row.frame_id in refused else "waiting")
        flags = bool(row.quality.get("flags")) or bool((row.found or {}).get("flags"))
        given = sorted(
            (one for one in marks.get(row.frame_id, ()) if one.labelled_at is not None),
            key=lambda one: one.labelled_at,  # type: ignore[arg-type, return-value]
        )
        last = given[-1] if given else None
        found.append(
            FrameFact(
                frame_id=row.frame_id,
                device=row.device,
                sequence=row.sequence,
                image_sha256=row.image_sha256,
                weights_sha256=row.weights_sha256 or "",
                state=state,
                flagged=state in ("refer", "refused") or flags,
                label=last.label if last else None,
                label_reason=last.reason if last else "",
                labelled_by=last.reader if last else "",
                viewed_by=frozenset(one.reader for one in marks.get(row.frame_id, ())),
                alert=(row.finer or {}).get("alert", ""),
            )
        )
    return found


def missing_near(session: Session, site: str, frames: Sequence[FrameFact]) -> int:
    """Return how many numbers between a case's frames, at their microscopes, are neither recorded nor told."""
    spans: dict[str, tuple[int, int]] = {}
    for frame in frames:
        low, high = spans.get(frame.device, (frame.sequence, frame.sequence))
        spans[frame.device] = min(low, frame.sequence), max(high, frame.sequence)
    if not spans:
        return 0
    near = or_(
        *(
            and_(GapRow.device == device, GapRow.first <= high, GapRow.last >= low)
            for device, (low, high) in spans.items()
        )
    )
    gaps = session.execute(
        select(GapRow.device, GapRow.first, GapRow.last)
        .join(LedgerRow, and_(LedgerRow.site == GapRow.site, LedgerRow.device == GapRow.device))
        .where(GapRow.site == site, GapRow.generation == LedgerRow.generation, near)
    ).all()
    here = {(frame.device, frame.sequence) for frame in frames}  # those that wait are counted as such
    total = 0
    for device, first, last in gaps:
        low, high = max(first, spans[device][0]), min(last, spans[device][1])
        total += max(0, high - low + 1) - sum(
            name == device and low <= number <= high for name, number in here
        )
    return total


def count(frames: Sequence[FrameFact], *, reader: str, missing: int = 0) -> FrameFacts:
    """Return what of the frames concerns one reader's signature."""
    flagged = [one for one in frames if one.flagged]
    return FrameFacts(
        recorded=sum(one.state in ("report", "refer") for one in frames),
        flagged=len(flagged),
        unseen=sum(reader not in one.viewed_by for one in flagged),
        seen=sum(reader in one.viewed_by for one in frames),
        unresolved=sum(one.unresolved for one in frames),
        waiting=sum(one.state == "waiting" for one in frames),
        missing=missing,
    )


@dataclass(frozen=True)
class ReviewFacts:
    """Everything of a case that the review needs, of one moment.

    Attributes:
        case: Its row.
        review: Its review's row; a blank one where nobody has acted.
        opinions: Of every round, the earliest first.
        calls: Its critical alerts.
        frames: Its frames, in the order of capture.
        missing: See `missing_near`.
    """

    case: CaseRow
    review: ReviewRow
    opinions: Sequence[OpinionRow]
    calls: Sequence[CriticalCallRow]
    frames: Sequence[FrameFact]
    missing: int

    @property
    def round(self) -> int:
        """The version that is being prepared."""
        return self.review.signed_version + 1

    @property
    def of_round(self) -> list[OpinionRow]:
        """Opinions of the present round."""
        return [one for one in self.opinions if one.round == self.round]

    @property
    def suspected(self) -> bool:
        """Whether the model suspects acute leukaemia."""
        return self.case.model_urgency == "critical"

    @property
    def standing(self) -> Standing:
        """What the readings of the present round amount to."""
        return stand(readings(self.of_round), critical=self.suspected)

    @property
    def call(self) -> CriticalCallRow | None:
        """The latest critical alert."""
        return self.calls[-1] if self.calls else None

    @property
    def critical(self) -> bool:
        """Whether the case asks for a call."""
        return bool(self.calls) or self.suspected or any(is_acute(one.conclusion) for one in self.of_round)

    @property
    def untold(self) -> bool:
        """Whether acute leukaemia, said now, would be news that no alert covers.

        None is open; and the last one was closed as none, or is from before a signature that said no acute leukaemia.
        """
        call, review = self.call, self.review
        if call is None or call.closed_how == "not_critical":
            return True
        before_signature = (
            call.closed_at is not None and review.signed_at is not None and call.closed_at <= review.signed_at
        )
        return before_signature and not is_acute(review.signed_conclusion or "")

    def own(self, reader: str) -> OpinionRow | None:
        """Return a reader's latest conclusion of the present round."""
        said = [one for one in self.of_round if one.reader == reader and one.stage != "impression"]
        return said[-1] if said else None

    def impression(self, reader: str) -> OpinionRow | None:
        """Return a reader's first impression of the present round."""
        return next(
            (one for one in self.of_round if one.reader == reader and one.stage == "impression"), None
        )

    def holds(self, reader: str, *, at: datetime) -> bool:
        """Return whether a reader has the case."""
        return self.review.claimed_by == reader and not self.free(at=at)

    def free(self, *, at: datetime) -> bool:
        """Return whether nobody has the case."""
        ends = self.review.claim_expires_at
        return self.review.claimed_by is None or ends is None or at >= ends

    def gates(self, actor: Actor, *, at: datetime, amend_reason: str = "") -> tuple[Gate, ...]:
        """Return the gates of the sign-off as they stand for ``actor``."""
        own, call = self.own(actor.name), self.call
        frames = count(self.frames, reader=actor.name, missing=self.missing)
        return gates(
            SignOff(
                signer=actor.name,
                at=at,
                claimed_by=self.review.claimed_by or "",
                claim_expires_at=self.review.claim_expires_at,
                standing=self.standing,
                frames=frames,
                came_since=max(0, frames.recorded - own.frames) if own else 0,
                critical=self.critical,
                acknowledged=call is not None and call.acknowledged_at is not None,
                called=call is not None and call.closed_at is not None,
                amending=self.review.signed_version > 0,
                amend_reason=amend_reason,
            )
        )


def blank(case_id: int, *, at: datetime) -> ReviewRow:
    """Return the review of a case on which nobody has acted; not in any session."""
    return ReviewRow(
        case_id=case_id,
        revision=0,
        status="preliminary",
        signed_version=0,
        signed_frames=0,
        amend_needed=False,
        changed_at=at,
    )


def read(session: Session, site: str, code: str, *, at: datetime) -> ReviewFacts:
    """Return everything of a case that the review needs.

    Args:
        session: An open session.
        site: The case's site.
        code: Its code.
        at: Now.

    Raises:
        NoSuchCase: If there is none.
    """
    found = find_case(session, site, code)
    frames = frames_of(session, found.id)
    return ReviewFacts(
        case=found,
        review=session.get(ReviewRow, found.id) or blank(found.id, at=at),
        opinions=opinions_of(session, found.id),
        calls=calls_of(session, found.id),
        frames=frames,
        missing=missing_near(session, site, frames),
    )


def subject(case: CaseRow) -> str:
    """Return how the audit names a case."""
    return f"case:{case.site}/{case.code}"


def model_word(case: CaseRow) -> Mapping[str, object]:
    """Return what the model said of a case, for whoever keeps it beside a reader's word."""
    return {"decision": case.decision, "leading": case.leading, "urgency": case.model_urgency}
