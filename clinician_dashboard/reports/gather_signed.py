"""Reading a signed version as a `CaseReport`: what was signed, whatever has come to the case since."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from clinician_dashboard.case_result import CaseResult, Share
from clinician_dashboard.record.frame_list import FRAME_STATES, FrameState, ListedFrame
from clinician_dashboard.record.reader import RecordReader
from clinician_dashboard.record.tables import CaseRow, DiagnosisRow, FrameRow
from clinician_dashboard.reports.case_report import (
    Call,
    CaseReport,
    Earlier,
    ReportFrame,
    ReportModel,
    Signature,
    choose_frames,
)
from clinician_dashboard.reports.errors import InvalidReport, NoSuchCase
from clinician_dashboard.reports.gather_parts import frame_from, model_of, referrals_of, software_version
from clinician_dashboard.review.conclusions import REASONS, RECEIVERS
from clinician_dashboard.review.signed import SignedFrame, SignedVersion, signed_versions

LISTED = 60
LOOKED_AT = 200


def gather_signed(
    reader: RecordReader, case: CaseRow, *, version: int | None, made_at: datetime
) -> CaseReport | None:
    """Return a signed version of a case, or none where nobody has signed it and no version was named.

    Args:
        reader: Of an open record.
        case: The case.
        version: Which; the newest if none is named.
        made_at: The report's own time.

    Raises:
        NoSuchCase: If the case has no such version.
        InvalidReport: If the content is no longer what was signed.
    """
    with reader.snapshot() as session:
        versions = signed_versions(session, case.id)
        chosen = versions[-1] if versions else None
        if version is not None:
            chosen = next((one for one in versions if one.version == version), None)
            if chosen is None:
                raise NoSuchCase(f"case {case.code} has no signed version {version}")
        if chosen is None:
            return None
        if not chosen.genuine:
            raise InvalidReport(
                f"version {chosen.version} of case {case.code} is no longer what was signed (its SHA-256 differs): no report "
                "is made of it; 'hemolink dashboard verify-audit' says more"
            )
        return _report(session, case, versions, chosen, made_at=made_at)


def _report(
    session: Session,
    case: CaseRow,
    versions: Sequence[SignedVersion],
    chosen: SignedVersion,
    *,
    made_at: datetime,
) -> CaseReport:
    numbered = list(enumerate(chosen.frames, 1))
    first = numbered[:LOOKED_AT]
    referred = [one for one in numbered if one[1].state == "refer"][:LOOKED_AT]
    answered = _read(session, first, referred)
    result = _result(chosen)
    frames = choose_frames([frame for frame, _diagnosis in answered.values()], LISTED, leading=result.leading)
    return CaseReport(
        site=case.site,
        code=case.code,
        version=chosen.version,
        made_at=made_at,
        opened_at=case.opened_at,
        changed_at=chosen.signed_at,
        result_at=case.first_result_at,
        stat=case.stat,
        simulated=chosen.simulated,
        headline=chosen.model["headline"],
        result=result,
        microscopes=tuple(filter(None, chosen.content["case"]["devices"].split(", "))),
        workers=tuple(sorted({frame.worker for frame in frames if frame.worker})),
        by_state={state: sum(one.state == state for one in chosen.frames) for state in FRAME_STATES},
        frames=frames,
        referrals=referrals_of(
            [
                [diagnosis]
                for _number, one in referred
                if (diagnosis := answered.get(one.frame_id, (None, None))[1]) is not None
            ]
        ),
        referrals_seen=len(referred),
        models=_models(session, chosen),
        software=software_version(),
        signature=_signature(versions, chosen),
    )


def _read(
    session: Session, *parts: Sequence[tuple[int, SignedFrame]]
) -> dict[str, tuple[ReportFrame, DiagnosisRow | None]]:
    wanted = {frame.frame_id: (number, frame) for part in parts for number, frame in part}
    rows = session.scalars(select(FrameRow).where(FrameRow.frame_id.in_(wanted))).all()
    answers = {
        (row.frame_id, row.weights_sha256): row
        for row in session.scalars(
            select(DiagnosisRow).where(DiagnosisRow.frame_id.in_(wanted), DiagnosisRow.joined)
        )
    }
    found = {}
    for row in rows:
        number, frame = wanted[row.frame_id]
        diagnosis = answers.get((frame.frame_id, frame.weights_sha256))
        listed = ListedFrame(number, cast("FrameState", frame.state), row)
        found[row.frame_id] = (frame_from(listed, diagnosis), diagnosis)
    return found


def _result(chosen: SignedVersion) -> CaseResult:
    model: Mapping[str, Any] = chosen.model
    counted = int(model["counted"])
    return CaseResult(
        decision=model["decision"],
        urgency=model["urgency"],
        leading=model["leading"],
        shares={name: Share(**share) for name, share in model["shares"].items()},
        counted=counted,
        referred=int(model["referred"]),
        effective=float(model.get("effective") or counted),
        reasons=tuple(model.get("reasons") or ()),
    )


def _models(session: Session, chosen: SignedVersion) -> tuple[ReportModel, ...]:
    models = []
    for named in chosen.models:
        weights = named["weights_sha256"]
        of_it = next((one.frame_id for one in chosen.frames if one.weights_sha256 == weights), None)
        told = session.scalar(
            select(DiagnosisRow.model).where(
                DiagnosisRow.frame_id == of_it, DiagnosisRow.weights_sha256 == weights
            )
        )
        models.append(model_of({**(told or {}), **named}, weights))
    return tuple(models)


def _signature(versions: Sequence[SignedVersion], chosen: SignedVersion) -> Signature:
    others = [one for one in chosen.readings if one.reader != chosen.signer]
    newest = versions[-1].version
    return Signature(
        version=chosen.version,
        conclusion=chosen.conclusion,
        finer=chosen.finer,
        words=chosen.conclusion_words,
        comment=chosen.comment,
        agrees=chosen.agrees,
        reason=REASONS[chosen.reason].words if chosen.reason in REASONS else chosen.reason,
        name=chosen.signer_name,
        login=chosen.signer,
        role=chosen.signer_role,
        signed_at=chosen.signed_at,
        second=_names([one for one in others if one.stage in ("first", "second")]),
        adjudicator=_names([one for one in others if one.stage == "adjudication"]),
        amend_reason=chosen.amend_reason,
        sha256=chosen.sha256,
        call=_call(chosen.call),
        warnings=tuple(chosen.warnings),
        earlier=tuple(
            Earlier(
                one.version,
                one.status,
                one.conclusion_words,
                one.signer_name or one.signer,
                one.signed_at,
                one.sha256,
            )
            for one in versions
            if one.version < chosen.version
        ),
        superseded_by=newest if newest > chosen.version else None,
    )


def _names(readings: Sequence[Any]) -> str:
    return ", ".join(dict.fromkeys(one.reader_name or one.reader for one in readings))


def _call(call: Mapping[str, Any] | None) -> Call | None:
    if call is None or not call.get("called_at"):
        return None
    known = RECEIVERS.get(call["told_role"] or "")
    return Call(
        to=known.words.lower() if known else call["told_role"] or "person on duty",
        at=datetime.fromisoformat(call["called_at"]),
        by=call["called_by"] or "",
        read_back=bool(call["read_back"]),
    )
