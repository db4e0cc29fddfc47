"""The case as an HL7 v2.5.1 ORU^R01: text, made by a pure function.

MSH, SFT, PID with the case code under a coded pseudonym (no patient's name, table 0200 ``S``), one OBR, and an OBX for the result,
for each class's probability and its interval, for the counts, the reasons and the models. OBR-25 and every OBX-11 are P while only
a model has spoken, F once a clinician has signed, and C for an amendment. A signed message carries the signer's conclusion under
the smear's code, the signer in OBR-32 and OBX-16, and the model's answer under a code of its own. Where anything is simulated MSH-11 is T (training) instead of P (production). Times are UTC. Sentences are TX in lines of 66
characters, each a repetition, which a receiver shows as a line: escaped, none exceeds the 199 that short readers take.
"""

import textwrap
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from broker_config.messages import DiseaseClass
from clinician_dashboard.reports import vocabulary as v
from clinician_dashboard.reports.case_report import CaseReport, Signature
from clinician_dashboard.reports.errors import InvalidReport, MissingPart
from clinician_dashboard.reports.telling import intended_use, suspicion, told_call
from clinician_dashboard.web.words import ACUTE_NOTE

MEDIA_TYPE = "x-application/hl7-v2+er7; charset=utf-8"
SEGMENT_END = "\r"
LINE = 66
ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
"""HL7 v2.5.1, 2.7.1: the delimiters that MSH-1 and MSH-2 declare."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, f"{v.LOCAL}/oru")
_STATUS = {"preliminary": "P", "final": "F", "amended": "C"}
"""Tables 0123 and 0085: preliminary; final; a correction, which replaces a final result."""


def escape(text: str) -> str:
    """Return ``text`` with HL7's delimiters escaped; control characters, which would end a segment, become spaces."""
    return "".join(ESCAPES.get(one, one) if one.isprintable() or one == "\u202f" else " " for one in text)


def oru_message(report: CaseReport, *, receiver: tuple[str, str] = ("", "")) -> str:
    """Return the message, segments ended by carriage returns.

    Args:
        report: The case. The same report gives the same message, control id included.
        receiver: The receiving application and facility (MSH-5 and MSH-6).
    """
    control_id = uuid.uuid5(
        _NAMESPACE, f"{report.site}/{report.code}/{report.status}/{report.version}/{_time(report.made_at)}"
    )
    moment = _time(report.made_at)
    smear = _element(v.SMEAR)
    segments = [
        _segment(
            *("MSH", "^~\\&", "HEMOLINK", escape(report.site), *map(escape, receiver)),
            *(moment, "", "ORU^R01^ORU_R01"),
            *(
                control_id.hex[:20],
                "T" if report.simulated else "P",
                "2.5.1",
                "",
                "",
                "",
                "",
                "",
                "UNICODE UTF-8",
            ),
        ),
        _segment(
            "SFT",
            "Hemolink",
            escape(report.software),
            "Hemolink clinician dashboard",
            escape(report.software),
        ),
        _segment(
            *("PID", "1", "", f"{escape(report.code)}^^^{escape(report.site)}^{v.ANONYMOUS.code}", ""),
            f"{escape(report.code)}^^^^^^S",
        ),
        _segment(
            *("OBR", "1", "", f"{escape(report.code)}^HEMOLINK", smear, "", "", _time(report.opened_at)),
            *([""] * 14),
            *(_time(report.as_of), "", "HM", _STATUS[report.status]),
            *([""] * 6),
            _signer(report).replace("^", "&"),
        ),
    ]
    notes = [intended_use(report)]
    if report.simulated:
        notes.insert(0, "SIMULATED: simulated smears, or a model that learnt from simulated smears only.")
    if report.critical:
        notes.append(ACUTE_NOTE)
    segments += [_segment("NTE", str(number), "L", escape(note)) for number, note in enumerate(notes, 1)]
    segments += [
        _segment("OBX", str(number), *fields) for number, fields in enumerate(_observations(report), 1)
    ]
    return "".join(f"{segment}{SEGMENT_END}" for segment in segments)


def check_message(message: str) -> None:
    """Check a message against the structure and data types of HL7 v2.5.1.

    Raises:
        InvalidReport: If it is at fault.
        MissingPart: If ``hl7apy`` is not installed.
    """
    try:
        from hl7apy.consts import VALIDATION_LEVEL  # type: ignore[import-untyped] # noqa: PLC0415
        from hl7apy.exceptions import HL7apyException  # type: ignore[import-untyped] # noqa: PLC0415
        from hl7apy.parser import parse_message  # type: ignore[import-untyped] # noqa: PLC0415
    except ImportError:
        raise MissingPart("HL7 v2 needs the package hl7apy: install the extra hemolink[reports]") from None
    try:
        parse_message(message, validation_level=VALIDATION_LEVEL.STRICT).validate()
    except (HL7apyException, ValueError) as error:
        raise InvalidReport(f"the HL7 message breaks its own structure: {error}") from None


def _observations(report: CaseReport) -> Iterator[Sequence[str]]:
    result = report.result
    finding = _element(*v.finding_of(result))
    if report.signature is None:
        yield _observation(report, "CE", _element(v.SMEAR), finding, flag=report.flag)
        if suspicion(report):
            said = _lines(suspicion(report))
            yield _observation(report, "TX", _element(v.READERS_SUSPICION), said, flag=report.flag)
    else:
        yield from _signed(report, report.signature)
        yield _observation(report, "CE", _element(v.MODEL_FINDING), finding, flag=report.model_flag)
    for name, share in result.shares.items():
        flag = report.flag_of(name)
        percent = f"{v.PERCENT.code}^percent^UCUM"
        yield _observation(
            report,
            "NM",
            _element(v.PROBABILITIES[name]),
            _percent(share.probability),
            units=percent,
            flag=flag,
        )
        ends = f"^{_percent(share.low)}^-^{_percent(share.high)}"
        yield _observation(report, "SN", _element(v.INTERVALS[name]), ends, units=percent, sub=name)
    for code, count in (
        (v.COUNTED, result.counted),
        (v.REFERRED, result.referred),
        (v.UNREAD, report.frame_count - report.read),
    ):
        yield _observation(report, "NM", _element(code), str(count))
    reasons = [*result.reasons, *(f"{one.sentence} ({one.frames} frames)" for one in report.referrals)]
    for number, reason in enumerate(reasons, 1):
        yield _observation(report, "TX", _element(v.REASON), _lines(reason), sub=str(number))
    for number, model in enumerate(report.models, 1):
        told = (
            f"{model.name} {model.version}, weights SHA-256 {model.weights_sha256}. "
            f"Trained on: {model.training_data or 'not stated'}"
        )
        told = f"SIMULATED. {told}" if model.simulated else told
        yield _observation(report, "TX", _element(v.MODEL_STATEMENT), _lines(told), sub=str(number))
    yield _observation(report, "TX", _element(v.INTENDED_USE), _lines(intended_use(report)))
    if report.simulated:
        yield _observation(report, "TX", _element(v.SIMULATED), "SIMULATED")


def _signed(report: CaseReport, signature: Signature) -> Iterator[Sequence[str]]:
    conclusion = _element(*v.codes_of(signature.conclusion, signature.finer))
    yield _observation(report, "CE", _element(v.SMEAR), conclusion, flag=report.flag, by=_signer(report))
    for code, text in (
        (v.COMMENT, signature.comment),
        (v.WHY_DIFFERENT, signature.reason if signature.agrees is False else ""),
        (v.WHY_AMENDED, signature.amend_reason),
        (v.CRITICAL_CALL, told_call(signature)),
    ):
        if text.strip():
            yield _observation(report, "TX", _element(code), _lines(text), by=_signer(report))
    yield _observation(report, "ST", _element(v.SIGNED_CONTENT), signature.sha256, by=_signer(report))


def _signer(report: CaseReport) -> str:
    signature = report.signature
    return f"{escape(signature.login)}^{escape(signature.name)}" if signature else ""


def _observation(
    report: CaseReport,
    kind: str,
    code: str,
    value: str,
    *,
    units: str = "",
    flag: str = "",
    sub: DiseaseClass | str = "",
    by: str = "",
) -> Sequence[str]:
    equipment = "~".join(f"{escape(worker)}^HEMOLINK" for worker in report.workers)
    moment = _time(report.opened_at)
    analysed = _time(report.result_at) if report.result_at else ""
    return (
        *(
            kind,
            code,
            sub,
            value,
            units,
            "",
            flag,
            "",
            "",
            _STATUS[report.status],
            "",
            "",
            moment,
            "",
            by,
            "",
        ),
        *(equipment, analysed),
    )


def _element(*codes: v.Code) -> str:
    """A coded element, with an alternate where there is a second code."""
    return "^".join(f"{escape(code.code)}^{escape(code.display)}^{code.table}" for code in codes[:2])


def _lines(text: str) -> str:
    return "~".join(escape(line) for line in textwrap.wrap(text, LINE))


def _percent(share: float) -> str:
    return f"{share * 100:.1f}"


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")


def _segment(name: str, *fields: str) -> str:
    return "|".join((name, *fields)).rstrip("|")
