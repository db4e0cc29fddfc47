"""The signature: all gates met, then one version that is never changed again."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.orm import Session

from broker_config.desk_messages import Review
from clinician_dashboard.outbox import enqueue
from clinician_dashboard.review import status
from clinician_dashboard.review.acting import Acting
from clinician_dashboard.review.claims import end_claim
from clinician_dashboard.review.conclusions import words_of
from clinician_dashboard.review.errors import NotReady, OutOfOrder, Unusable
from clinician_dashboard.review.facts import ReviewFacts
from clinician_dashboard.review.gates import Gate
from clinician_dashboard.review.reading import models_of
from clinician_dashboard.review.signed import FORM, SignedVersion, canonical_sha256, from_row, latest_signed
from clinician_dashboard.review.tables import CriticalCallRow, OpinionRow, SignedVersionRow
from clinician_dashboard.web.words import headline

MAX_REASON = 500

OnSigned = Callable[[Session, SignedVersion], None]


def check(facts: ReviewFacts, found: Sequence[Gate], *, warned: bool) -> None:
    """Make sure that nothing stands against a signature.

    Args:
        facts: The case.
        found: Its gates for the signer.
        warned: Whether the signer has seen the warnings and signs all the same.

    Raises:
        NotReady: If a gate is not met.
    """
    del facts
    unmet = [one for one in found if one.blocks or (not one.met and not warned)]
    if unmet:
        codes = {one.code for one in unmet}
        # Without a conclusion, or without the second reading, that none stands yet says nothing more.
        told = [one for one in unmet if one.code != "agreed" or not codes & {"conclusion", "second"}]
        raise NotReady(
            "It cannot be signed yet: " + " ".join(one.sentence for one in told),
            gates=unmet,
        )


def sign(act: Acting, *, warned: bool, amend_reason: str, on_signed: Sequence[OnSigned]) -> SignedVersion:
    """Sign the case: the first version is final, later ones amend the one before.

    Args:
        act: By the signer, whose password was asked for.
        warned: Whether the signer has seen the warnings and signs all the same.
        amend_reason: Why a signed version is amended; empty for the first.
        on_signed: Called in the same transaction with what was signed.

    Raises:
        NotReady: If a gate is not met.
        OutOfOrder: If the report's status does not allow it.
        Unusable: If the reason is too long.
    """
    facts, review = act.facts, act.review
    if len(amend_reason) > MAX_REASON or "\x00" in amend_reason:
        raise Unusable(f"The reason is too long, or holds NUL: at most {MAX_REASON} characters.")
    amending = review.signed_version > 0
    found = facts.gates(act.actor, at=act.at, amend_reason=amend_reason)
    check(facts, found, warned=warned)
    own = facts.own(act.actor.name)
    if own is None:
        raise OutOfOrder("There is no conclusion of yours.")
    now_status = status.after(review.status, "amend" if amending else "sign")  # type: ignore[arg-type]
    before = latest_signed(act.session, act.case.id)
    content = _content(
        act,
        own,
        status=now_status,
        warnings=[one.sentence for one in found if not one.met],
        amend_reason=amend_reason.strip() if amending else "",
        amends=before.sha256 if before else "",
    )
    row = SignedVersionRow(
        case_id=act.case.id,
        version=facts.round,
        status=now_status,
        signed_at=act.at,
        signer=act.actor.name,
        content=content,
        sha256=canonical_sha256(content),
    )
    act.session.add(row)
    act.changed(
        "case.sign" if now_status == "final" else "case.amend",
        version=row.version,
        conclusion=own.conclusion,
        sha256=row.sha256,
        frames=len(facts.frames),
        viewed=sum(act.actor.name in one.viewed_by for one in facts.frames),
        warnings=content["warnings"],
        reason=content["amend_reason"],
    )
    review.status = now_status
    review.signed_version, review.signed_at, review.signed_by = row.version, act.at, act.actor.name
    review.signed_conclusion = own.conclusion
    review.signed_frames = act.case.recorded
    review.amend_needed = False
    end_claim(review)
    made = from_row(row)
    _tell(act, made)
    for tell in on_signed:
        tell(act.session, made)
    return made


def _content(
    act: Acting, own: OpinionRow, *, status: str, warnings: list[str], amend_reason: str, amends: str
) -> dict[str, Any]:
    case, facts = act.case, act.facts
    return {
        "form": FORM,
        "case": {
            "site": case.site,
            "code": case.code,
            "devices": case.devices,
            "opened_at": _iso(case.opened_at),
            "simulated": bool(case.simulated),
        },
        "version": facts.round,
        "status": status,
        "conclusion": {
            "code": own.conclusion,
            "finer": own.finer,
            "words": words_of(own.conclusion, own.finer),
            "reason": own.reason,
            "comment": own.comment,
            "agrees": None if own.differs is None else not own.differs,
        },
        "model": {
            "headline": headline(case),
            "urgency": case.model_urgency,
            "decision": case.decision,
            "leading": case.leading,
            "shares": {
                name: {key: round(value, 6) for key, value in share.items()}
                for name, share in case.result.get("shares", {}).items()
            },
            "counted": case.result.get("counted", 0),
            "referred": case.result.get("referred", 0),
            "effective": case.result.get("effective"),
            "reasons": case.result.get("reasons", []),
            "revision": case.revision,
        },
        "models": models_of(act),
        "frames": [
            {
                "frame_id": one.frame_id,
                "image_sha256": one.image_sha256,
                "weights_sha256": one.weights_sha256,
                "state": one.state,
                "label": one.label or "",
                "label_reason": one.label_reason,
                "labelled_by": one.labelled_by,
            }
            for one in facts.frames
        ],
        "readings": [
            {
                "stage": one.stage,
                "reader": one.reader,
                "reader_name": one.reader_name,
                "conclusion": one.conclusion,
                "finer": one.finer,
                "reason": one.reason,
                "comment": one.comment,
                "differs": one.differs,
                "blind": one.blind,
                "at": _iso(one.at),
            }
            for one in facts.of_round
        ],
        "call": _call(facts.call),
        "warnings": warnings,
        "signer": {"name": act.actor.name, "full_name": act.actor.full_name, "role": act.actor.role},
        "signed_at": _iso(act.at),
        "amend_reason": amend_reason,
        "amends_sha256": amends,
    }


def _call(row: CriticalCallRow | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {
        "cause": row.cause,
        "opened_at": _iso(row.opened_at),
        "acknowledged_at": _iso(row.acknowledged_at),
        "acknowledged_by": row.acknowledged_by,
        "escalated_at": _iso(row.escalated_at),
        "called_at": _iso(row.called_at),
        "called_by": row.called_by,
        "told_role": row.told_role,
        "told_code": row.told_code,
        "read_back": row.read_back,
        "closed_at": _iso(row.closed_at),
        "closed_how": row.closed_how,
        "note": row.note,
    }


def _iso(moment: Any) -> str | None:
    return moment.isoformat(timespec="microseconds") if moment is not None else None


def _tell(act: Acting, made: SignedVersion) -> None:
    for device in filter(None, (act.case.devices or "").split(", ")):
        message = Review(
            case=made.code,
            site=made.site,
            device=device,
            version=made.version,
            status=made.status,
            conclusion=made.conclusion,
            finer=made.finer,
            agrees=made.agrees,
            frames=len(made.frames),
            content_sha256=made.sha256,
            signed_at=made.signed_at,
            simulated=made.simulated,
            by=act.desk,
        )
        enqueue(act.session, message, site=made.site, device=device)
