"""Every code that a report may carry, each with its display name and its source. A code stands here or it is not sent.

Where no published code was certain to fit, the code is ours, in a system of our own (`LOCAL`): a receiver sees that it is
local and reads its display. SNOMED CT needs a licence in some countries; LOINC is free under its own licence.

Looked at and left out, since this system counts no cells: LOINC 709-6 and 26446-5, blasts per 100 leukocytes in blood by
manual count, and without a method. Also left out: 34994-4, "Smear morphology panel - Blood", which LOINC discourages. (709-4 and
26446-2, which lists of this field name for the blasts, are no codes: `check_digit` is wrong.)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from broker_config.messages import DiseaseClass
from clinician_dashboard.case_result import CaseResult
from clinician_dashboard.review import conclusions as review

LOCAL = "https://hemolink.invalid/fhir"
"""Root of what is ours. The domain is reserved (RFC 6761), so it can never turn out to be someone else's."""

LOCAL_TABLE = "99HML"
"""The same in HL7 v2, where a local coding system begins with 99 (table 0396)."""

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
UCUM = "http://unitsofmeasure.org"
V2 = "http://terminology.hl7.org/CodeSystem/v2-"
V3 = "http://terminology.hl7.org/CodeSystem/v3-"
FHIR = "http://terminology.hl7.org/CodeSystem/"

HL7_TABLES = {LOINC: "LN", SNOMED: "SCT", UCUM: "UCUM"}
"""HL7 v2's names of the code systems (table 0396)."""


@dataclass(frozen=True)
class Code:
    """A code with the display name that belongs to it, and where the pair was taken from."""

    system: str
    code: str
    display: str
    source: str

    def coding(self) -> dict[str, str]:
        """Return it as FHIR's Coding."""
        return {"system": self.system, "code": self.code, "display": self.display}

    @property
    def table(self) -> str:
        """HL7 v2's name of its code system."""
        return HL7_TABLES.get(self.system, LOCAL_TABLE)


_OURS = "ours"
_SCT = "SNOMED CT International Edition, preferred term in US English"
_THO = "HL7 Terminology (terminology.hl7.org)"


def _local(system: str, code: str, display: str) -> Code:
    return Code(f"{LOCAL}/CodeSystem/{system}", code, display, _OURS)


SMEAR = Code(
    LOINC,
    "5909-7",
    "Blood smear finding [Identifier] in Blood by Light microscopy",
    "loinc.org/5909-7, long common name",
)
DISORDERS: dict[DiseaseClass, Code] = {
    "ALL": Code(SNOMED, "91857003", "Acute lymphoid leukemia", _SCT),
    "AML": Code(SNOMED, "91861009", "Acute myeloid leukemia", _SCT),
    "CLL": Code(SNOMED, "92814006", "Chronic lymphoid leukemia", _SCT),
    "CML": Code(SNOMED, "92818009", "Chronic myeloid leukemia", _SCT),
}
FINDINGS: dict[DiseaseClass, Code] = {
    "healthy": _local("finding", "healthy", "No leukaemia suggested"),
    "ALL": _local("finding", "ALL", "Acute lymphoblastic leukaemia suggested"),
    "AML": _local("finding", "AML", "Acute myeloid leukaemia suggested"),
    "CLL": _local("finding", "CLL", "Chronic lymphocytic leukaemia suggested"),
    "CML": _local("finding", "CML", "Chronic myeloid leukaemia suggested"),
}
CONCLUSIONS: dict[str, tuple[Code, ...]] = {
    one.code: (
        _local("conclusion", one.code, one.words),
        *((Code(SNOMED, *one.snomed, _SCT),) if one.snomed else ()),
    )
    for one in review.CONCLUSIONS.values()
}
"""What a clinician may conclude: our code, and SNOMED CT's where one is certain."""
FINER: dict[tuple[str, str], tuple[Code, ...]] = {
    (conclusion, one.code): (
        _local("conclusion", f"{conclusion}-{one.code}", review.words_of(conclusion, one.code)),
        *((Code(SNOMED, *one.snomed, _SCT),) if one.snomed else ()),
    )
    for conclusion, labels in review.FINER.items()
    for one in labels
}
UNDECIDED = _local("finding", "refer", "The model does not answer: a person must read the smear")
ACUTE = _local("finding", "acute", "Acute leukaemia suspected, type not settled")
WAITING = _local("finding", "waiting", "No frame has been read yet")
PROBABILITIES: dict[DiseaseClass, Code] = {
    "healthy": _local("measure", "probability-healthy", "Calibrated probability of no leukaemia"),
    "ALL": _local("measure", "probability-ALL", "Calibrated probability of acute lymphoblastic leukaemia"),
    "AML": _local("measure", "probability-AML", "Calibrated probability of acute myeloid leukaemia"),
    "CLL": _local("measure", "probability-CLL", "Calibrated probability of chronic lymphocytic leukaemia"),
    "CML": _local("measure", "probability-CML", "Calibrated probability of chronic myeloid leukaemia"),
}
INTERVAL_LOW = _local("measure", "interval-low", "Lower end of Wilson's 95 % interval")
INTERVAL_HIGH = _local("measure", "interval-high", "Upper end of Wilson's 95 % interval")
INTERVALS: dict[DiseaseClass, Code] = {
    name: _local("measure", f"interval-{name}", f"95 % interval of: {code.display}")
    for name, code in PROBABILITIES.items()
}
COUNTED = _local("measure", "frames-counted", "Frames that count in the result")
REFERRED = _local("measure", "frames-referred", "Frames referred to a person and left out")
UNREAD = _local("measure", "frames-unread", "Frames without an answer")
REASON = _local("measure", "referral-reason", "Reason to refer")
MODEL_STATEMENT = _local("measure", "model", "Model, with its training-data statement")
MODEL_FINDING = _local("measure", "model-finding", "What the model answered for the case")
READERS_SUSPICION = _local("measure", "readers-suspicion", "Suspicion of a reader, not signed")
COMMENT = _local("measure", "comment", "Comment of the signer")
WHY_DIFFERENT = _local("measure", "why-different", "Why the conclusion differs from the model")
WHY_AMENDED = _local("measure", "why-amended", "Why the report was amended")
CRITICAL_CALL = _local("measure", "critical-call", "How the critical finding was told")
SIGNED_CONTENT = _local("measure", "signed-content", "SHA-256 of the signed content")
INTENDED_USE = _local("measure", "intended-use", "Intended use")
SIMULATED = _local("measure", "simulated", "Simulated")

MODEL_DEVICE = _local("device", "model", "Classification model")
WORKER_DEVICE = _local("device", "worker", "Computer that runs the model")
MICROSCOPE = _local("device", "microscope", "Microscope with a camera")
DASHBOARD = _local("device", "dashboard", "Clinician's desk")

PERCENT = Code(UCUM, "%", "%", "UCUM")
LABORATORY = Code(f"{FHIR}observation-category", "laboratory", "Laboratory", _THO)
HEMATOLOGY = Code(f"{V2}0074", "HM", "Hematology", _THO)
WHOLE_BLOOD = Code(f"{V2}0487", "BLD", "Whole blood", _THO)
SLIDE = Code(SNOMED, "433466003", "Microscope slide", "DICOM PS3.16, container types (CID 8101)")
ANONYMOUS = Code(f"{V2}0203", "ANON", "Anonymous identifier", _THO)
ACCESSION = Code(f"{V2}0203", "ACSN", "Accession ID", _THO)
AI_ASSERTED = Code(f"{V3}ObservationValue", "AIAST", "Artificial Intelligence asserted", _THO)
CLINICIAN_ASSERTED = Code(f"{V3}ObservationValue", "CLINAST", "clinician asserted", _THO)
TEST_DATA = Code(f"{V3}ActReason", "HTEST", "test health data", _THO)
CREATE = Code(f"{V3}DataOperation", "CREATE", "create", _THO)
UPDATE = Code(f"{V3}DataOperation", "UPDATE", "revise", _THO)
_LIFECYCLE = f"{FHIR}iso-21089-lifecycle"
ORIGINATED = Code(_LIFECYCLE, "originate", "Originate/Retain Record Lifecycle Event", _THO)
ATTESTED = Code(_LIFECYCLE, "attest", "Attest Record Lifecycle Event", _THO)
AMENDED = Code(_LIFECYCLE, "amend", "Amend (Update) Record Lifecycle Event", _THO)
ATTESTER = Code(f"{FHIR}provenance-participant-type", "attester", "Attester", _THO)
VERIFIER = Code(f"{FHIR}provenance-participant-type", "verifier", "Verifier", _THO)
AUTHORS_SIGNATURE = Code(
    "urn:iso-astm:E1762-95:2013",
    "1.2.840.10065.1.12.1.1",
    "Author's Signature",
    "ASTM E1762, by hl7.org/fhir/valueset-signature-type.html",
)
ASSEMBLER = Code(f"{FHIR}provenance-participant-type", "assembler", "Assembler", _THO)
AUTHOR = Code(f"{FHIR}provenance-participant-type", "author", "Author", _THO)
NOT_YET = Code(f"{FHIR}data-absent-reason", "temp-unknown", "Temporarily Unknown", _THO)
NOT_KNOWN = Code(f"{FHIR}data-absent-reason", "unknown", "Unknown", _THO)
INTERPRETATIONS = {
    "N": Code(f"{V3}ObservationInterpretation", "N", "Normal", _THO),
    "A": Code(f"{V3}ObservationInterpretation", "A", "Abnormal", _THO),
    "AA": Code(f"{V3}ObservationInterpretation", "AA", "Critical abnormal", _THO),
}


def check_digit(number: str) -> str:
    """Return the check digit of a LOINC number: "7" of "5909" (LOINC Users' Guide, appendix C; modulus 10)."""
    backwards = number[::-1]
    doubled = str(2 * int(backwards[0::2][::-1]))
    total = sum(int(digit) for digit in backwards[1::2] + doubled)
    return str(-total % 10)


def finding_of(result: CaseResult) -> tuple[Code, ...]:
    """Return the codes of a model's result: ours, with SNOMED CT's disorder where it reports one."""
    if result.urgency == "waiting":
        return (WAITING,)
    if result.decision != "report" or result.leading is None:
        return (ACUTE if result.urgency == "critical" else UNDECIDED,)
    known = DISORDERS.get(result.leading)
    return (FINDINGS[result.leading], *((known,) if known else ()))


def codes_of(conclusion: str, finer: str) -> tuple[Code, ...]:
    """Return the codes of a clinician's conclusion: ours, and SNOMED CT's of the finer label or else of the conclusion.

    Raises:
        KeyError: If there is no such conclusion.
    """
    whole = CONCLUSIONS[conclusion]
    finer_codes = FINER.get((conclusion, finer), ())
    ours = finer_codes[:1] or whole[:1]
    return (*ours, *(finer_codes[1:] or whole[1:]))


def _all_codes() -> Iterator[Code]:
    for value in list(globals().values()):
        if isinstance(value, Code):
            yield value
        elif isinstance(value, dict):
            for one in value.values():
                yield from (
                    part for part in (one if isinstance(one, tuple) else (one,)) if isinstance(part, Code)
                )


CODES: Mapping[tuple[str, str], Code] = {(code.system, code.code): code for code in _all_codes()}
"""Every code of this module, by system and code."""

_REPORT = "registered partial preliminary final amended corrected appended cancelled entered-in-error unknown"
_OBSERVATION = "registered preliminary final amended corrected cancelled entered-in-error unknown"
_EVENT = "preparation in-progress not-done on-hold stopped completed entered-in-error unknown"
_BUNDLE = (
    "document message transaction transaction-response batch batch-response history searchset collection"
)

_BOTH = {
    "Bundle.type": _BUNDLE,
    "DiagnosticReport.status": _REPORT,
    "DocumentReference.status": "current superseded entered-in-error",
    "Observation.status": _OBSERVATION,
    "Specimen.status": "available unavailable unsatisfactory entered-in-error",
    "Narrative.status": "generated extensions additional empty",
    "Practitioner.gender": "male female other unknown",
    "AuditEvent.action": "C R U D E",
}
VALUE_SETS: Mapping[str, Mapping[str, str]] = {
    "r4b": {
        **_BOTH,
        "Media.status": _EVENT,
        "Device.status": "active inactive entered-in-error unknown",
        "Device.deviceName.type": "udi-label-name user-friendly-name patient-reported-name manufacturer-name model-name other",
        "Provenance.entity.role": "derivation revision quotation source removal",
        "AuditEvent.outcome": "0 4 8 12",
    },
    "r5": {
        **_BOTH,
        "DiagnosticReport.status": f"{_REPORT} modified",
        "Device.status": "active inactive entered-in-error",
        "Device.name.type": "registered-name user-friendly-name patient-reported-name",
        "DocumentReference.docStatus": f"{_REPORT} deprecated",
        "Provenance.entity.role": "revision quotation source instantiates removal",
        "AuditEvent.severity": "emergency alert critical error warning notice informational debug",
    },
}
"""Value sets of required strength, by element, from hl7.org/fhir/R4B and hl7.org/fhir/R5; `fhir.resources` checks none."""


def faults_of(bundle: Mapping[str, Any], *, release: str) -> list[str]:
    """Return what of a bundle's codes is not in this module's tables; empty if all is well.

    Args:
        bundle: The FHIR bundle as plain fields.
        release: ``r4b`` or ``r5``.
    """
    faults = [f"coding {coding}" for coding in _codings(bundle) if not _is_known(coding)]
    resources = [bundle, *(entry["resource"] for entry in bundle.get("entry", ()))]
    for resource in resources:
        for element, allowed in VALUE_SETS[release].items():
            kind, _, path = element.partition(".")
            start: Any = resource.get("text", {}) if kind == "Narrative" else resource
            if kind not in ("Narrative", resource["resourceType"]):
                continue
            faults += [
                f"{element} = {value}" for value in _values(start, path) if value not in allowed.split()
            ]
    return faults


ACT = f"{LOCAL}/act"
"""System of the tags that name an act (a signature, a report), so that a server can be asked whether it has it."""


def _is_known(coding: Mapping[str, Any]) -> bool:
    if coding.get("system") == ACT:
        return True  # a name of one of our own acts, no code
    known = CODES.get((coding.get("system", ""), coding.get("code", "")))
    return known is not None and coding.get("display", known.display) == known.display


def _codings(part: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(part, Mapping):
        if "system" in part and "code" in part and "value" not in part:
            yield part
        for inner in part.values():
            yield from _codings(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _codings(inner)


def _values(part: Any, path: str) -> Iterator[str]:
    if isinstance(part, list):
        for one in part:
            yield from _values(one, path)
    elif not path:
        yield part
    elif isinstance(part, Mapping):
        name, _, rest = path.partition(".")
        if name in part:
            yield from _values(part[name], rest)
