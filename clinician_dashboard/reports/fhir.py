"""The case as a FHIR bundle, R4B or R5: plain fields, made by a pure function, checked before they leave.

One bundle of type ``collection``: DiagnosticReport (preliminary) with its Observations, Specimen, the frames (Media in R4B,
DocumentReference in R5), Devices (models, workers, microscopes, this software) and Provenance. Ids are derived from names, so that
the same case, frame or model has the same id in every report. Everything carries the label AIAST while only a model has spoken,
and HTEST where anything is simulated. The subject is the case code alone.
"""

import base64
import hashlib
import uuid
from collections.abc import Mapping
from datetime import datetime
from html import escape
from typing import Any, Literal

from broker_config.messages import DiseaseClass
from clinician_dashboard.reports import vocabulary as v
from clinician_dashboard.reports.case_report import CaseReport, ReportFrame, ReportModel
from clinician_dashboard.reports.errors import InvalidReport, MissingPart
from clinician_dashboard.web.words import INTENDED_USE

Release = Literal["r4b", "r5"]
Fields = dict[str, Any]

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, v.LOCAL)
_MEDIA_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
MEDIA_TYPE = {
    "r4b": "application/fhir+json; fhirVersion=4.3",
    "r5": "application/fhir+json; fhirVersion=5.0",
}


def fhir_bundle(report: CaseReport, release: Release, *, pdf: bytes | None = None) -> Fields:
    """Return the bundle as plain fields.

    Args:
        report: The case.
        release: ``r4b`` or ``r5``.
        pdf: The same report as PDF, to be carried as its presented form.
    """
    return _Bundle(report, release).build(pdf)


def check_bundle(bundle: Mapping[str, Any], release: Release) -> None:
    """Check a bundle against the structure of its FHIR release, and its codes against `vocabulary`.

    Raises:
        InvalidReport: If it is at fault.
        MissingPart: If ``fhir.resources`` is not installed.
    """
    try:
        if release == "r4b":
            from fhir.resources.R4B.bundle import Bundle  # noqa: PLC0415 - takes a second
        else:
            from fhir.resources.bundle import Bundle  # type: ignore[assignment] # noqa: PLC0415
    except ImportError:
        raise MissingPart(
            "FHIR needs the package fhir.resources: install the extra hemolink[reports]"
        ) from None
    try:
        Bundle.model_validate(bundle)
    except ValueError as error:
        raise InvalidReport(f"the FHIR bundle breaks its own structure: {error}") from None
    faults = v.faults_of(bundle, release=release)
    if faults:
        raise InvalidReport(f"the FHIR bundle holds codes that are not in the tables: {'; '.join(faults)}")


class _Bundle:
    """Builds one bundle."""

    def __init__(self, report: CaseReport, release: Release) -> None:
        self._report = report
        self._release = release
        self._case = f"{report.site}/{report.code}"

    def build(self, pdf: bytes | None) -> Fields:
        report = self._report
        resources = [
            self._diagnostic_report(pdf),
            self._result(),
            *(self._probability(name) for name in report.result.shares),
            self._specimen(),
            *(self._frame(frame) for frame in report.frames),
            *(self._model(model) for model in report.models),
            *(self._device("worker", name, v.WORKER_DEVICE) for name in report.workers),
            *(
                self._device("microscope", f"{report.site}/{name}", v.MICROSCOPE)
                for name in report.microscopes
            ),
            self._device("dashboard", "hemolink", v.DASHBOARD, version=report.software),
            self._provenance(),
        ]
        return {
            "resourceType": "Bundle",
            "id": self._id("bundle", f"{self._case}/{report.version}"),
            "meta": self._meta(),
            "type": "collection",
            "timestamp": _instant(report.made_at),
            "entry": [{"fullUrl": f"urn:uuid:{one['id']}", "resource": one} for one in resources],
        }

    def _diagnostic_report(self, pdf: bytes | None) -> Fields:
        report = self._report
        told = [report.headline, *report.result.reasons, INTENDED_USE]
        if report.simulated:
            told.insert(0, "SIMULATED.")
        fields = self._start("DiagnosticReport", "report", self._case)
        fields |= {
            "text": {
                "status": "generated",
                "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{escape(" ".join(map(_sentence, told)))}</p></div>',
            },
            "identifier": [
                {"type": _concept(v.ACCESSION), "system": self._case_system, "value": report.code},
                {"system": f"{v.LOCAL}/report", "value": f"{self._case}/{report.version}"},
            ],
            "status": report.status,
            "category": [_concept(v.HEMATOLOGY)],
            "code": _concept(v.SMEAR),
            "subject": self._subject(),
            "effectiveDateTime": _instant(report.opened_at),
            "issued": _instant(report.changed_at),
            "specimen": [self._reference("specimen", self._case)],
            "result": [self._reference("result", self._case)]
            + [self._reference("probability", f"{self._case}/{name}") for name in report.result.shares],
            "media": [
                {"comment": _caption(frame), "link": self._reference("frame", frame.frame_id)}
                for frame in report.frames
            ],
            "conclusion": " ".join(map(_sentence, told)),
            "conclusionCode": [self._conclusion()],
        }
        if pdf is not None:
            fields["presentedForm"] = [
                {
                    "contentType": "application/pdf",
                    "language": "en",
                    "data": base64.b64encode(pdf).decode(),
                    "size": len(pdf),
                    # FHIR defines this element as SHA-1; it guards against accidents, not attacks.
                    "hash": base64.b64encode(hashlib.sha1(pdf, usedforsecurity=False).digest()).decode(),
                    "title": f"{report.code}, {report.status} report, version {report.version}",
                    "creation": _instant(report.made_at),
                }
            ]
        return {name: value for name, value in fields.items() if value != []}  # FHIR knows no empty lists

    def _result(self) -> Fields:
        report = self._report
        fields = self._observation("result", self._case, v.SMEAR)
        if report.result.urgency == "waiting":
            fields["dataAbsentReason"] = _concept(v.NOT_YET)
        elif report.result.leading is None:
            fields["dataAbsentReason"] = _concept(v.NOT_KNOWN)
        else:
            fields["valueCodeableConcept"] = self._conclusion()
        self._interpret(fields, report.flag)
        notes = [
            *report.result.reasons,
            *(f"{one.sentence} ({one.frames} frames)" for one in report.referrals),
        ]
        if notes:
            fields["note"] = [{"text": text} for text in notes]
        members = [self._reference("probability", f"{self._case}/{name}") for name in report.result.shares]
        if members:
            fields["hasMember"] = members
        fields["component"] = [
            {"code": _concept(code), "valueInteger": count}
            for code, count in (
                (v.COUNTED, report.result.counted),
                (v.REFERRED, report.result.referred),
                (v.UNREAD, report.frame_count - report.read),
            )
        ]
        sources = [frame for frame in report.frames if frame.state == "report"]
        if sources:
            fields["derivedFrom"] = [self._reference("frame", frame.frame_id) for frame in sources]
        return fields

    def _probability(self, name: DiseaseClass) -> Fields:
        share = self._report.result.shares[name]
        fields = self._observation("probability", f"{self._case}/{name}", v.PROBABILITIES[name])
        fields["valueQuantity"] = _percent(share.probability)
        self._interpret(fields, self._report.flag_of(name))
        fields["component"] = [
            {"code": _concept(v.INTERVAL_LOW), "valueQuantity": _percent(share.low)},
            {"code": _concept(v.INTERVAL_HIGH), "valueQuantity": _percent(share.high)},
        ]
        return fields

    def _observation(self, kind: str, name: str, code: v.Code) -> Fields:
        report = self._report
        fields = self._start("Observation", kind, name)
        fields |= {
            "status": report.status,
            "category": [_concept(v.LABORATORY)],
            "code": _concept(code),
            "subject": self._subject(),
            "effectiveDateTime": _instant(report.opened_at),
            "issued": _instant(report.changed_at),
            "specimen": self._reference("specimen", self._case),
        }
        if (
            len(report.models) == 1
        ):  # the element holds one device; with several models, provenance names them all
            fields["device"] = self._reference("model", report.models[0].weights_sha256)
        return fields

    def _specimen(self) -> Fields:
        return self._start("Specimen", "specimen", self._case) | {
            "accessionIdentifier": {
                "type": _concept(v.ACCESSION),
                "system": self._case_system,
                "value": self._report.code,
            },
            "type": _concept(v.WHOLE_BLOOD),
            "subject": self._subject(),
        }

    def _frame(self, frame: ReportFrame) -> Fields:
        attachment: Fields = {
            "contentType": _MEDIA_TYPES[frame.encoding],
            "url": f"/api/v1/frames/{frame.frame_id}/image",
            "title": _caption(frame),
            "creation": _instant(frame.captured_at),
        }
        identifiers = [
            {"system": f"{v.LOCAL}/frame", "value": frame.frame_id},
            {"system": f"{v.LOCAL}/image-sha256", "value": frame.image_sha256},
        ]
        if self._release == "r4b":
            return self._start("Media", "frame", frame.frame_id) | {
                "identifier": identifiers,
                "status": "completed",
                "subject": self._subject(),
                "createdDateTime": _instant(frame.captured_at),
                "device": self._reference("microscope", f"{self._report.site}/{frame.device}"),
                "width": frame.width,
                "height": frame.height,
                "content": attachment,
                **({"note": [{"text": text} for text in frame.reasons]} if frame.reasons else {}),
            }
        attachment |= {"width": frame.width, "height": frame.height}
        return self._start("DocumentReference", "frame", frame.frame_id) | {
            "identifier": identifiers,
            "status": "current",
            "docStatus": self._report.status,
            "subject": self._subject(),
            "date": _instant(frame.captured_at),
            "author": [self._reference("microscope", f"{self._report.site}/{frame.device}")],
            "content": [{"attachment": attachment}],
            **({"description": " ".join(frame.reasons)} if frame.reasons else {}),
        }

    def _model(self, model: ReportModel) -> Fields:
        fields = self._device(
            "model", model.weights_sha256, v.MODEL_DEVICE, shown=model.name, version=model.version
        )
        told = [
            f"Trained on: {model.training_data or 'not stated'}",
            f"Network: {model.architecture or 'not stated'}; engine: {model.engine or 'not stated'}",
            f"SHA-256 of the weights: {model.weights_sha256}",
            INTENDED_USE,
        ]
        if model.simulated:
            told.insert(0, "SIMULATED: it learnt from simulated smears only.")
        return fields | {"note": [{"text": text} for text in told]}

    def _device(self, kind: str, name: str, code: v.Code, *, shown: str = "", version: str = "") -> Fields:
        named = {"type": "user-friendly-name"}
        fields = self._start("Device", kind, name)
        fields["identifier"] = [{"system": f"{v.LOCAL}/{kind}", "value": name}]
        if self._release == "r4b":
            fields["deviceName"] = [{"name": shown or name, **named}]
            fields["type"] = _concept(code)
        else:
            fields["name"] = [{"value": shown or name, **named}]
            fields["type"] = [_concept(code)]
        if version:
            fields["version"] = [{"value": version}]
        return fields

    def _provenance(self) -> Fields:
        report = self._report
        fields = self._start("Provenance", "provenance", f"{self._case}/{report.version}")
        authors = [
            {"type": _concept(v.AUTHOR), "who": self._reference("model", model.weights_sha256)}
            for model in report.models
        ]
        assembler = {"type": _concept(v.ASSEMBLER), "who": self._reference("dashboard", "hemolink")}
        sources = [
            {"role": "source", "what": self._reference("frame", frame.frame_id)} for frame in report.frames
        ]
        return (
            fields
            | {
                "target": [self._reference("report", self._case), self._reference("result", self._case)],
                "recorded": _instant(report.made_at),
                "activity": _concept(v.CREATE),
                "agent": [*authors, assembler],
            }
            | ({"entity": sources} if sources else {})
        )

    def _conclusion(self) -> Fields:
        result = self._report.result
        codes: list[v.Code]
        if result.urgency == "waiting":
            codes = [v.WAITING]
        elif result.decision == "report" and result.leading is not None:
            known = v.DISORDERS.get(result.leading)
            codes = [v.FINDINGS[result.leading], *([known] if known else [])]
        else:
            codes = [v.ACUTE if result.urgency == "critical" else v.UNDECIDED]
        return {"coding": [code.coding() for code in codes], "text": self._report.headline}

    def _interpret(self, fields: Fields, flag: str) -> None:
        if flag:
            fields["interpretation"] = [_concept(v.INTERPRETATIONS[flag])]

    @property
    def _case_system(self) -> str:
        return f"{v.LOCAL}/site/{self._report.site}/case"

    def _subject(self) -> Fields:
        return {
            "type": "Patient",
            "identifier": {
                "type": _concept(v.ANONYMOUS),
                "system": self._case_system,
                "value": self._report.code,
            },
        }

    def _start(self, resource: str, kind: str, name: str) -> Fields:
        return {"resourceType": resource, "id": self._id(kind, name), "meta": self._meta()}

    def _meta(self) -> Fields:
        labels = [v.AI_ASSERTED, *([v.TEST_DATA] if self._report.simulated else [])]
        return {"security": [label.coding() for label in labels]}

    def _reference(self, kind: str, name: str) -> Fields:
        return {"reference": f"urn:uuid:{self._id(kind, name)}"}

    def _id(self, kind: str, name: str) -> str:
        return str(uuid.uuid5(_NAMESPACE, f"{kind}/{name}"))


def _concept(code: v.Code) -> Fields:
    return {"coding": [code.coding()]}


def _percent(share: float) -> Fields:
    return {"value": round(share * 100, 1), "unit": "%", "system": v.UCUM, "code": v.PERCENT.code}


def _instant(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _caption(frame: ReportFrame) -> str:
    if frame.prediction is None:
        answer = "no answer"
    elif frame.state == "refer":
        answer = f"referred, leans {frame.prediction}"
    else:
        answer = f"{frame.prediction} {frame.probabilities[frame.prediction]:.0%}"
    return f"{frame.simulated + ': ' if frame.simulated else ''}frame {frame.number}, {answer}"
