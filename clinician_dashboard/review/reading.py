"""Reading a case: frames opened, referred frames resolved, first impressions, conclusions."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from clinician_dashboard.access.roles import Actor
from clinician_dashboard.record.sums import add_reading
from clinician_dashboard.record.tables import CaseRow, DiagnosisRow, FrameRow
from clinician_dashboard.review import blind, critical
from clinician_dashboard.review.acting import Acting
from clinician_dashboard.review.conclusions import (
    CONCLUSIONS,
    FINER,
    FRAME_LABELS,
    FRAME_REASONS,
    MAX_COMMENT,
    NOT_ASSESSABLE,
    REASONS,
    is_acute,
)
from clinician_dashboard.review.errors import HeldByAnother, NoSuchCase, OutOfOrder, Unusable
from clinician_dashboard.review.facts import FrameFact, readings
from clinician_dashboard.review.opinions import Stage, differs_from_model, stage_of
from clinician_dashboard.review.tables import FrameMarkRow, OpinionRow, ReviewRow


@dataclass(frozen=True)
class Word:
    """What a reader says of a case.

    Attributes:
        conclusion: A code of `CONCLUSIONS`.
        finer: A finer label within it, or empty.
        reason: A code of `REASONS`, needed where it differs from the model.
        comment: Free text, at most 2,000 characters, no patient's name.
    """

    conclusion: str
    finer: str = ""
    reason: str = ""
    comment: str = ""


def view(
    session: Session,
    case: CaseRow,
    actor: Actor,
    frame_ids: Collection[str],
    *,
    at: datetime,
    claim_minutes: int,
) -> int:
    """Note that somebody opened frames; returns how many of them were new to them.

    It happens with every frame that is looked at, so it reads nothing but these frames.

    Raises:
        NoSuchCase: If a frame is not of this case.
    """
    wanted = set(frame_ids)
    here = select(FrameRow.frame_id).where(FrameRow.case_id == case.id, FrameRow.frame_id.in_(wanted))
    if wanted - set(session.scalars(here)):
        raise NoSuchCase("There is no such frame in this case.")
    known = select(FrameMarkRow.frame_id).where(
        FrameMarkRow.frame_id.in_(wanted), FrameMarkRow.reader == actor.name
    )
    new = wanted - set(session.scalars(known))
    for frame_id in new:
        session.add(
            FrameMarkRow(frame_id=frame_id, reader=actor.name, case_id=case.id, viewed_at=at, reason="")
        )
    review = session.get(ReviewRow, case.id)
    if review is not None and review.claimed_by == actor.name and (review.claim_expires_at or at) > at:
        review.claim_expires_at = at + timedelta(minutes=claim_minutes)
    return len(new)


def resolve(act: Acting, frame_id: str, *, label: str, reason: str) -> None:
    """Give a frame a class, or call it not assessable and say why.

    Raises:
        NoSuchCase: If the frame is not of this case.
        Unusable: If label or reason is unknown, or not assessable has no reason.
    """
    frame = _frame(act, frame_id)
    if label not in FRAME_LABELS:
        raise Unusable(f"Choose one of {', '.join(FRAME_LABELS.values())} for the frame.")
    if reason and reason not in FRAME_REASONS:
        raise Unusable("That reason is not in the list.")
    if label == NOT_ASSESSABLE and reason in ("", "read"):
        raise Unusable("Say why the frame is not assessable.")
    mark = act.session.get(FrameMarkRow, (frame.frame_id, act.actor.name))
    if mark is None:
        mark = _mark(act, frame.frame_id)
        act.session.add(mark)
    mark.label, mark.reason, mark.labelled_at = label, reason or "read", act.at
    act.prolong()
    act.note("frame.resolve", frame=frame.frame_id, label=label, reason=mark.reason, model=frame.state)


def impression(act: Acting, word: Word) -> None:
    """Keep a reader's first impression, given before seeing the model's answer.

    Raises:
        OutOfOrder: If the reader does not read blind, or has given one.
        Unusable: If the conclusion is unknown.
    """
    if not blind.hidden_from(act.session, act.facts, act.actor, settings=act.settings):
        raise OutOfOrder("The model's answer is not hidden from you: give your conclusion.")
    _check(word)
    act.keep()
    act.session.add(_opinion(act, word, stage="impression", blind_read=True))
    _alert(act, word)
    act.prolong()
    act.changed("case.impression", conclusion=word.conclusion, finer=word.finer)


def conclude(act: Acting, word: Word) -> Stage:
    """Record a reader's conclusion; returns as which reader it counts.

    Raises:
        OutOfOrder: If the reader reads blind and has given no impression, or nothing is asked of them.
        HeldByAnother: If somebody else has the case, and this would be the first reading.
        Unusable: If something is unknown, or a reason or a comment is missing.
    """
    facts, actor = act.facts, act.actor
    if blind.hidden_from(act.session, facts, actor, settings=act.settings):
        raise OutOfOrder(
            "You read blind first: give your first impression, then the model's answer is shown."
        )
    stage = stage_of(actor.name, readings(facts.of_round), critical=facts.suspected)
    if stage is None:
        raise OutOfOrder("Two readers agree on this case, or a third one has decided: nothing more is asked.")
    if stage == "first" and not facts.holds(actor.name, at=act.at):
        if facts.free(at=act.at):
            raise OutOfOrder("Claim the case first.")
        raise HeldByAnother(f"{facts.review.claimed_name} has this case.")
    _check(word)
    differs = differs_from_model(word.conclusion, decision=act.case.decision, leading=act.case.leading)
    if differs:
        reason = REASONS.get(word.reason)
        if reason is None:
            raise Unusable("It differs from the model: choose the reason.")
        if reason.needs_comment and not word.comment.strip():
            raise Unusable(f"The reason '{reason.words}' needs a comment.")
    act.keep()
    blind_read = facts.impression(actor.name) is not None
    act.session.add(_opinion(act, word, stage=stage, blind_read=blind_read, differs=differs))
    if stage == "first" and differs is not None and facts.own(actor.name) is None:
        add_reading(
            act.session,
            at=act.at,
            site=act.case.site,
            devices=act.case.devices,
            weights=(act.case.totals or {}).get("models", {}),
            overridden=differs,
        )
    _alert(act, word)
    act.prolong()
    act.changed(
        "case.conclude",
        stage=stage,
        conclusion=word.conclusion,
        finer=word.finer,
        reason=word.reason if differs else "",
        differs=differs,
    )
    return stage


def _alert(act: Acting, word: Word) -> None:
    if is_acute(word.conclusion) and act.facts.untold:
        critical.open_call(
            act.session, act.case, cause="reader", at=act.at, settings=act.settings, desk=act.desk
        )
        act.alerted = True


def _frame(act: Acting, frame_id: str) -> FrameFact:
    found = next((one for one in act.facts.frames if one.frame_id == frame_id), None)
    if found is None:
        raise NoSuchCase("There is no such frame in this case.")
    return found


def _mark(act: Acting, frame_id: str) -> FrameMarkRow:
    return FrameMarkRow(
        frame_id=frame_id, reader=act.actor.name, case_id=act.case.id, viewed_at=act.at, reason=""
    )


def _check(word: Word) -> None:
    conclusion = CONCLUSIONS.get(word.conclusion)
    if conclusion is None:
        raise Unusable("Choose a conclusion.")
    if word.finer and word.finer not in {one.code for one in FINER.get(word.conclusion, ())}:
        raise Unusable(f"The finer label does not belong to {conclusion.words}.")
    if word.reason and word.reason not in REASONS:
        raise Unusable("That reason is not in the list.")
    if len(word.comment) > MAX_COMMENT:
        raise Unusable(f"The comment has {len(word.comment)} characters: at most {MAX_COMMENT}.")
    if "\x00" in word.comment:
        raise Unusable("The comment holds a character that cannot be kept (NUL).")
    if conclusion.needs_comment and not word.comment.strip():
        raise Unusable(f"'{conclusion.words}' needs a comment: say what you found.")


def _opinion(
    act: Acting, word: Word, *, stage: Stage, blind_read: bool, differs: bool | None = None
) -> OpinionRow:
    call = act.facts.call
    if stage == "impression":
        differs = differs_from_model(word.conclusion, decision=act.case.decision, leading=act.case.leading)
    return OpinionRow(
        case_id=act.case.id,
        round=act.facts.round,
        stage=stage,
        reader=act.actor.name,
        reader_name=act.actor.full_name or act.actor.name,
        role=act.actor.role,
        at=act.at,
        conclusion=word.conclusion,
        finer=word.finer,
        reason=word.reason if differs and stage != "impression" else "",
        comment=word.comment.strip(),
        differs=differs,
        blind=blind_read,
        alerted=call is not None and call.closed_at is None,
        model_decision=act.case.decision,
        model_leading=act.case.leading,
        models=models_of(act),
        frames=sum(one.state in ("report", "refer") for one in act.facts.frames),
    )


def models_of(act: Acting) -> list[dict[str, object]]:
    """Return the models whose answers count in the case, for whoever keeps them beside a reader's word."""
    wanted = {one.weights_sha256 for one in act.facts.frames if one.weights_sha256}
    one_each = (
        select(func.max(DiagnosisRow.id))
        .join(FrameRow, FrameRow.frame_id == DiagnosisRow.frame_id)
        .where(FrameRow.case_id == act.case.id, DiagnosisRow.joined)
        .group_by(DiagnosisRow.weights_sha256)
    )
    rows = act.session.scalars(
        select(DiagnosisRow).where(DiagnosisRow.id.in_(one_each)).order_by(DiagnosisRow.id)
    )
    return [
        {
            "name": row.model["name"],
            "version": row.model["version"],
            "weights_sha256": row.weights_sha256,
            "training_data": row.model.get("training_data", ""),
            "simulated": bool(row.model.get("simulated")),
        }
        for row in rows
        if row.weights_sha256 in wanted
    ]
