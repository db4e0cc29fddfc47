"""The case as an HL7 v2.5.1 ORU^R01: text, made by a pure function.

MSH, SFT, PID with the case code under a coded pseudonym (no patient's name, table 0200 ``S``), one OBR with status P, and an OBX for
the result, for each class's probability and its interval, for the counts, the reasons and the models; every OBX-11 is P. Where
anything is simulated MSH-11 is T (training) instead of P (production). Times are UTC. Sentences are TX in lines of 66
characters, each a repetition, which a receiver shows as a line: escaped, none exceeds the 199 that short readers take.
"""

import textwrap
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from broker_config.messages import DiseaseClass
from clinician_dashboard.reports import vocabulary as v
from clinician_dashboard.reports.case_report import CaseReport
from clinician_dashboard.reports.errors import InvalidReport, MissingPart
from clinician_dashboard.web.words import ACUTE_NOTE
from clinician_dashboard.web.words import INTENDED_USE as INTENDED_USE_WORDS

MEDIA_TYPE = "x-application/hl7-v2+er7; charset=utf-8"
SEGMENT_END = "\r"
LINE = 66
ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
"""HL7 v2.5.1, 2.7.1: the delimiters that MSH-1 and MSH-2 declare."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, f"{v.LOCAL}/oru")
_STATUS = {"preliminary": "P"}
"""Tables 0123 and 0085."""


def escape(text: str) -> str:
    """Return ``text`` with HL7's delimiters escaped; control characters, which would end a segment, become spaces."""
    return "".join(ESCAPES.get(one, one) if one.isprintable() or one == "\u202f" else " " for one in text)


def oru_message(report: CaseReport) -> str:
    """Return the message, segments ended by carriage returns."""
    control_id = uuid.uuid5(
        _NAMESPACE, f"{report.site}/{report.code}/{report.version}/{_time(report.made_at)}"
    )
    moment = _time(report.made_at)
    smear = _element(v.SMEAR)
    segments = [
        _segment(
            *("MSH", "^~\\&", "HEMOLINK", escape(report.site), "", "", moment, "", "ORU^R01^ORU_R01"),
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
            *(_time(report.changed_at), "", "HM", _STATUS[report.status]),
        ),
    ]
    notes = [INTENDED_USE_WORDS]
    if report.simulated:
        notes.insert(0, "SIMULATED: simulated smears, or a model that learnt from simulated smears only.")
    if report.result.urgency == "critical":
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
    yield _observation(report, "CE", _element(v.SMEAR), _conclusion(report), flag=report.flag)
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
    yield _observation(report, "TX", _element(v.INTENDED_USE), _lines(INTENDED_USE_WORDS))
    if report.simulated:
        yield _observation(report, "TX", _element(v.SIMULATED), "SIMULATED")


def _observation(
    report: CaseReport,
    kind: str,
    code: str,
    value: str,
    *,
    units: str = "",
    flag: str = "",
    sub: DiseaseClass | str = "",
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
            "",
            "",
        ),
        *(equipment, analysed),
    )


def _conclusion(report: CaseReport) -> str:
    """The finding of our own table, with SNOMED CT's disorder as the alternate where the model reports one."""
    result = report.result
    if result.urgency == "waiting":
        return _element(v.WAITING)
    if result.decision != "report" or result.leading is None:
        return _element(v.ACUTE if result.urgency == "critical" else v.UNDECIDED)
    finding = _element(v.FINDINGS[result.leading])
    disorder = v.DISORDERS.get(result.leading)
    return f"{finding}^{_element(disorder)}" if disorder else finding


def _element(code: v.Code) -> str:
    return f"{escape(code.code)}^{escape(code.display)}^{code.table}"


def _lines(text: str) -> str:
    return "~".join(escape(line) for line in textwrap.wrap(text, LINE))


def _percent(share: float) -> str:
    return f"{share * 100:.1f}"


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")


def _segment(name: str, *fields: str) -> str:
    return "|".join((name, *fields)).rstrip("|")
