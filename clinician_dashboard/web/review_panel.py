"""What the case page shows of the review, for one person."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from broker_config.messages import now
from clinician_dashboard.access.roles import Actor
from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.review.blind import asked
from clinician_dashboard.review.conclusions import (
    CONCLUSIONS,
    FINER,
    FRAME_LABELS,
    FRAME_REASONS,
    MAX_COMMENT,
    REASONS,
    RECEIVERS,
    words_of,
)
from clinician_dashboard.review.critical import MAX_NOTE, OpenAlert
from clinician_dashboard.review.facts import FrameFact, ReviewFacts, readings
from clinician_dashboard.review.gates import Gate
from clinician_dashboard.review.opinions import Stage, stage_of
from clinician_dashboard.review.patients import Prior
from clinician_dashboard.review.service import ReviewDesk
from clinician_dashboard.review.signed import SignedReading, SignedVersion
from clinician_dashboard.review.signing import MAX_REASON
from clinician_dashboard.review.tables import CriticalCallRow, OpinionRow
from clinician_dashboard.web import words
from clinician_dashboard.web.views import FrameCard

SHOWN_FRAMES = ("unseen", "unresolved")
"""Filters of the frames that the review adds."""

STAGE_WORDS = {
    "impression": "First impression",
    "first": "First reader",
    "second": "Second reader",
    "adjudication": "Deciding reader",
}
STATUS_WORDS = {"preliminary": "Preliminary", "final": "Final", "amended": "Amended"}

GLOBALS: dict[str, Any] = {
    "CONCLUSIONS": CONCLUSIONS,
    "FINER": FINER,
    "REASONS": REASONS,
    "FRAME_LABELS": FRAME_LABELS,
    "FRAME_REASONS": FRAME_REASONS,
    "RECEIVERS": RECEIVERS,
    "STAGE_WORDS": STAGE_WORDS,
    "STATUS_WORDS": STATUS_WORDS,
    "MAX_COMMENT": MAX_COMMENT,
    "MAX_NOTE": MAX_NOTE,
    "MAX_REASON": MAX_REASON,
    "words_of": words_of,
}


@dataclass(frozen=True)
class ReviewPanel:
    """What one person sees of a case's review, and may do.

    Attributes:
        facts: The case.
        at: When it was read.
        reader: Whether the person may review at all.
        signer: Whether the person may sign.
        lead: Whether the person may take cases over.
        hidden: Whether the model's answer is hidden from them.
        alone: Whether other readers' suspicion is kept from them: they read blind, and have not concluded.
        blind_asked: Whether the laboratory asks for it.
        blind_chosen: Whether they chose it.
        mine: Whether they have the case.
        free: Whether nobody has it.
        stage: As which reader their conclusion would count; none where nothing is asked of them.
        own: Their latest conclusion of this round.
        opinions: Opinions of this round that they may see.
        secret: How many they may not see yet, so that the second reading is their own.
        apart: Whether other readers' words, and their classes for frames, are kept from them; see `reads_apart`.
        gates: Of the sign-off; empty for who may not sign.
        versions: Signed ones.
        prior: Other smears of the patient.
        frames: By frame id.
    """

    facts: ReviewFacts
    at: datetime
    name: str
    reader: bool
    signer: bool
    lead: bool
    hidden: bool
    alone: bool
    blind_asked: bool
    blind_chosen: bool
    mine: bool
    free: bool
    stage: Stage | None
    own: OpinionRow | None
    opinions: Sequence[OpinionRow]
    secret: int
    apart: bool
    gates: Sequence[Gate]
    versions: Sequence[SignedVersion]
    prior: Sequence[Prior]
    frames: Mapping[str, FrameFact]

    @property
    def revision(self) -> int:
        """Of the review."""
        return self.facts.review.revision

    @property
    def amending(self) -> bool:
        """Whether a version is signed already."""
        return self.facts.review.signed_version > 0

    @property
    def other_readers(self) -> list[SignedReading]:
        """The latest word of each reader of the signed version but its signer; empty where none is signed."""
        if not self.versions:
            return []
        signed = self.versions[-1]
        said = {one.reader: one for one in signed.readings if one.stage != "impression"}
        return [one for one in said.values() if one.reader != signed.signer]

    @property
    def call(self) -> CriticalCallRow | None:
        """The latest critical alert."""
        return self.facts.call

    @property
    def tells_call(self) -> bool:
        """Whether the critical alert may be shown: an escalated one to everybody."""
        call = self.call
        if call is not None and call.escalated_at is not None:
            return True
        return not self.hidden and not (self.alone and not self.facts.suspected)

    @property
    def urgency(self) -> str:
        """The case's urgency as they may know it."""
        return self.facts.case.model_urgency if self.alone else self.facts.case.urgency

    @property
    def urgent(self) -> bool:
        """Whether an alert is open, or should be."""
        call = self.call
        return call.closed_at is None if call is not None else self.facts.suspected and not self.amending

    @property
    def suspected_subtypes(self) -> list[tuple[str, int]]:
        """What the model says of subtypes that must not be missed, each with the number of frames that say so."""
        return Counter(one.alert for one in self.frames.values() if one.alert).most_common()

    @property
    def blocked(self) -> bool:
        """Whether a gate stands before the signature."""
        return any(gate.blocks for gate in self.gates)

    @property
    def warnings(self) -> list[Gate]:
        """What the signer must accept in so many words."""
        return [gate for gate in self.gates if not gate.met and gate.warns]

    @property
    def may_conclude(self) -> bool:
        """Whether a conclusion of theirs would be taken now."""
        return (
            self.reader
            and not self.hidden
            and self.stage is not None
            and (self.mine or self.stage != "first")
        )

    @property
    def suggestion(self) -> str:
        """The conclusion that confirms the model; empty where it does not answer."""
        case = self.facts.case
        return case.leading or "" if case.decision == "report" else ""

    def ids(self, show: str) -> frozenset[str] | None:
        """Return which frames one of `SHOWN_FRAMES` shows; none for another filter."""
        if show == "unseen":
            return frozenset(
                one.frame_id for one in self.frames.values() if one.flagged and self.name not in one.viewed_by
            )
        if show == "unresolved":
            return frozenset(one.frame_id for one in self.frames.values() if one.unresolved)
        return None

    def tells_label(self, fact: FrameFact) -> bool:
        """Return whether a frame's class is shown to them: their own is, and another's where they do not read apart."""
        return told(fact, self.name, apart=self.apart)

    def mark(self, frame_id: str) -> str:
        """Return what of a frame's marks a card shows; changes when the card must be drawn again."""
        fact = self.frames.get(frame_id)
        if fact is None:
            return ""
        viewed = "v" if self.name in fact.viewed_by else "f" if fact.flagged and self.reader else ""
        label = fact.label if self.tells_label(fact) else ""
        return f"{viewed}{label or ''}{'h' if self.hidden else ''}"


def reads_apart(actor: Actor, facts: ReviewFacts, *, hidden: bool, alone: bool) -> bool:
    """Return whether other readers' words are kept from ``actor``.

    They read blind and have not spoken, or not concluded while another suspects acute leukaemia (``alone``); or they may be the
    second reader, who sees the first one's word after giving their own.
    """
    if hidden or alone:
        return True
    if not actor.may("cases.review") or facts.own(actor.name) is not None:
        return False
    stage = stage_of(actor.name, readings(facts.of_round), critical=facts.suspected)
    return stage == "second" and bool(facts.standing.second_needed)


def told(fact: FrameFact, name: str, *, apart: bool) -> bool:
    """Return whether a frame has a class that a reader may see."""
    return fact.label is not None and (not apart or fact.labelled_by == name)


def review_panel(desk: ReviewDesk, actor: Actor, site: str, code: str) -> ReviewPanel:
    """Return what ``actor`` sees of a case's review.

    Raises:
        NoSuchCase: If there is none.
    """
    facts = desk.read(site, code)
    at = now()
    reader = actor.may("cases.review")
    stage = stage_of(actor.name, readings(facts.of_round), critical=facts.suspected) if reader else None
    own = facts.own(actor.name)
    hidden = desk.hidden(actor, facts)
    alone = bool(desk.alone_cases(actor, [facts.case]))
    apart = reads_apart(actor, facts, hidden=hidden, alone=alone)
    seen = [one for one in facts.of_round if not apart or one.reader == actor.name]
    return ReviewPanel(
        facts=facts,
        at=at,
        name=actor.name,
        reader=reader,
        signer=actor.may("cases.sign"),
        lead=actor.role == "lab_lead",
        hidden=hidden,
        alone=alone,
        blind_asked=asked(site, settings=desk.settings),
        blind_chosen=reader and desk.reads_blind(actor),
        mine=facts.holds(actor.name, at=at),
        free=facts.free(at=at),
        stage=stage,
        own=own,
        opinions=seen,
        secret=len(facts.of_round) - len(seen),
        apart=apart,
        gates=facts.gates(actor, at=at, amend_reason="given with the signature")
        if actor.may("cases.sign") and not hidden and not alone
        else (),
        versions=desk.versions(facts.case.id),
        prior=desk.prior(facts.case),
        frames={one.frame_id: one for one in facts.frames},
    )


def blinded(card: FrameCard) -> FrameCard:
    """Return a frame's card without what the model said."""
    flags = tuple(words.flag(flag) for flag in card.frame.quality.get("flags", ()))
    simulated = words.simulated(card.frame, None)
    return replace(
        card, diagnosis=None, grid="", reasons=(), flags=flags, simulated=simulated, state="waiting"
    )


@dataclass(frozen=True)
class Alerts:
    """What every page says of critical cases to whoever may act.

    Attributes:
        shown: The first few, unacknowledged ones first.
        unseen: How many nobody has acknowledged.
        open: How many are acknowledged, and not told yet.
        lead: Whether who looks is the lab lead, to whom alerts are escalated.
        unnamed: How many of the first few are of cases that who looks reads blind: those are counted, and not named.
        hidden: Ids of such cases that were escalated: those are named, without their finding.
    """

    shown: Sequence[OpenAlert] = ()
    unseen: int = 0
    open: int = 0
    lead: bool = False
    unnamed: int = 0
    hidden: frozenset[int] = frozenset()

    @property
    def escalated(self) -> bool:
        """Whether one was not acknowledged in time."""
        return any(one.state == "escalated" for one in self.shown)


def kept_back(desk: ReviewDesk, actor: Actor, cases: Sequence[CaseRow]) -> frozenset[int]:
    """Return the ids of those of ``cases`` of which ``actor`` may not know why an alert is open, or whether one is."""
    raised = [case for case in cases if case.raised_by_reader]
    return desk.hidden_cases(actor, cases) | desk.alone_cases(actor, raised)


def alerts_for(desk: ReviewDesk, actor: Actor | None) -> Alerts:
    """Return the alerts that ``actor`` sees on every page; none for who may not act."""
    if actor is None or not actor.may("cases.review"):
        return Alerts()
    counts = desk.open_counts()
    if not any(counts.values()):
        return Alerts(lead=actor.role == "lab_lead")
    shown = [one for one in desk.alerts(limit=4) if one.state != "acknowledged"][:3]
    kept = kept_back(desk, actor, [one.case for one in shown])
    named = [one for one in shown if one.case.id not in kept or one.state == "escalated"]
    return Alerts(
        shown=named,
        unseen=counts["open"] + counts["escalated"],
        open=counts["acknowledged"],
        lead=actor.role == "lab_lead",
        unnamed=len(shown) - len(named),
        hidden=kept & {one.case.id for one in named},
    )


def review_fields(desk: ReviewDesk, actor: Actor, site: str, code: str) -> dict[str, Any]:
    """Return a case's review as plain fields, for the JSON API."""
    panel = review_panel(desk, actor, site, code)
    review = panel.facts.review
    standing = panel.facts.standing
    return {
        "site": site,
        "code": code,
        "revision": review.revision,
        "status": review.status,
        "claimed_by": None if panel.free else review.claimed_by,
        "claim_expires_at": None if panel.free else review.claim_expires_at,
        "signed_version": review.signed_version,
        "signed_at": review.signed_at,
        "signed_by": review.signed_by,
        "amend_needed": review.amend_needed,
        "patient_code": review.patient_code,
        "answer_hidden": panel.hidden,
        "second_reading_needed": bool(standing.second_needed) and not panel.secret and not panel.alone,
        "stage": panel.stage,
        "opinions": [
            {
                name: getattr(one, name)
                for name in (
                    *("stage", "reader", "reader_name", "role", "at", "conclusion", "finer", "reason"),
                    *("comment", "differs", "blind"),
                )
            }
            for one in panel.opinions
        ],
        "gates": [
            {"code": one.code, "met": one.met, "warns": one.warns, "sentence": one.sentence, "link": one.link}
            for one in panel.gates
        ],
        "critical": None
        if panel.call is None or not panel.tells_call
        else {
            name: getattr(panel.call, name)
            for name in (
                *("cause", "opened_at", "due_at", "acknowledged_at", "acknowledged_by", "escalated_at"),
                *("called_at", "called_by", "told_role", "told_code", "read_back", "closed_at", "closed_how"),
            )
        },
        "frames": [
            {
                "frame_id": one.frame_id,
                "flagged": one.flagged and not panel.hidden,
                "viewed": actor.name in one.viewed_by,
                "label": one.label if panel.tells_label(one) else None,
                "label_reason": one.label_reason if panel.tells_label(one) else "",
                "labelled_by": one.labelled_by if panel.tells_label(one) else "",
            }
            for one in panel.facts.frames
        ],
    }
