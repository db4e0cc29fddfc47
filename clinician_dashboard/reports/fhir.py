"""The case as a FHIR bundle, R4B or R5: plain fields, made by a pure function, checked before they leave.

One bundle of type ``collection``: DiagnosticReport (preliminary, final or amended) with its Observations, Specimen, the frames
(Media in R4B, DocumentReference in R5), Devices (models, workers, microscopes, this software), Practitioner, Provenance and
AuditEvent. Ids are derived from names, so that the same case, frame or model has the same id in every report. The first
identifier of a resource stays the same in every report too.

While only a model has spoken, the smear's Observation holds its answer and everything carries the label AIAST. Once a clinician has
signed, that Observation holds the signer's conclusion; the model's answer stays beside it, in Observations that keep the label.
Where anything is simulated, everything carries HTEST. The subject is the case code alone.
"""

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from typing import Any

from broker_config.messages import DiseaseClass
from clinician_dashboard.reports import vocabulary as v
from clinician_dashboard.reports.case_report import CaseReport, ReportFrame, ReportModel
from clinician_dashboard.reports.errors import InvalidReport, MissingPart
from clinician_dashboard.reports.fhir_acts import audit_event, people, person_of, provenances
from clinician_dashboard.reports.fhir_parts import (
    Fields,
    Naming,
    Release,
    caption,
    concept,
    id_of,
    instant,
    percent,
    reference,
    sentence,
)
from clinician_dashboard.reports.telling import intended_use, remarks, suspicion
from clinician_dashboard.web.words import INTENDED_USE

_MEDIA_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
MEDIA_TYPE = {
    "r4b": "application/fhir+json; fhirVersion=4.3",
    "r5": "application/fhir+json; fhirVersion=5.0",
}


def fhir_bundle(
    report: CaseReport, release: Release, *, pdf: bytes | None = None, desk_url: str | None = ""
) -> Fields:
    """Return the bundle as plain fields.

    Args:
        report: The case.
        release: ``r4b`` or ``r5``.
        pdf: The same report as PDF, to be carried as its presented form.
        desk_url: What the addresses of frames begin with; empty for addresses relative to the desk; none leaves them out.
    """
    return _Bundle(report, release, desk_url).build(pdf)


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

    def __init__(self, report: CaseReport, release: Release, desk_url: str | None) -> None:
        self._report = report
        self._release = release
        self._desk_url = desk_url
        self._naming = Naming(report)
        self._case = self._naming.case

    def build(self, pdf: bytes | None) -> Fields:
        report = self._report
        signed = report.signature is not None
        resources = [
            self._diagnostic_report(pdf),
            *(
                [self._conclusion_of_signer(), self._answer_of_model("model-result", v.MODEL_FINDING)]
                if signed
                else []
            ),
            *([] if signed else [self._answer_of_model("result", v.SMEAR)]),
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
            *people(self._naming),
            *provenances(self._naming),
            audit_event(self._naming, self._release),
        ]
        return {
            "resourceType": "Bundle",
            "id": id_of("bundle", self._naming.act),
            "meta": {"security": self._naming.labels} if self._naming.labels else {},
            "type": "collection",
            "timestamp": instant(report.made_at),
            "entry": [{"fullUrl": f"urn:uuid:{one['id']}", "resource": one} for one in resources],
        }

    def _diagnostic_report(self, pdf: bytes | None) -> Fields:
        report = self._report
        told = " ".join(map(sentence, self._told()))
        fields = self._naming.start(
            "DiagnosticReport", "report", self._case, speaker="clinician" if report.signature else "model"
        )
        identifiers = [
            {"system": f"{v.LOCAL}/report", "value": self._case},
            self._naming.accession,
            {"system": f"{v.LOCAL}/report-version", "value": f"{self._case}/{report.version}"},
        ]
        fields |= {
            "text": {
                "status": "generated",
                "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{escape(told)}</p></div>',
            },
            "identifier": identifiers,
            "status": report.status,
            "category": [concept(v.HEMATOLOGY)],
            "code": concept(v.SMEAR),
            "subject": self._naming.subject,
            "effectiveDateTime": instant(report.opened_at),
            "issued": instant(report.as_of),
            "specimen": [reference("specimen", self._case)],
            "result": [reference("result", self._case)]
            + ([reference("model-result", self._case)] if report.signature else [])
            + [reference("probability", f"{self._case}/{name}") for name in report.result.shares],
            "media": [
                {"comment": caption(frame), "link": reference("frame", frame.frame_id)}
                for frame in report.frames
            ],
            "conclusion": told,
            "conclusionCode": [self._conclusion() if report.signature else self._finding()],
        }
        if report.signature is not None:
            identifiers.append({"system": f"{v.LOCAL}/signed-sha256", "value": report.signature.sha256})
            fields["resultsInterpreter"] = [reference("person", person_of(self._naming, report.signature))]
        if pdf is not None:
            fields["presentedForm"] = [self._form(pdf)]
        return {name: value for name, value in fields.items() if value != []}  # FHIR knows no empty lists

    def _told(self) -> list[str]:
        report = self._report
        told = [report.statement]
        if report.signature is not None:
            told += [
                *remarks(report.signature),
                f"Supporting evidence, answer of the model: {report.headline}",
                f"Signed by {report.signature.name or report.signature.login}, {instant(report.signature.signed_at)}",
            ]
        told += [*self._suspicion(), *report.result.reasons, intended_use(report)]
        return ["SIMULATED.", *told] if report.simulated else told

    def _suspicion(self) -> list[str]:
        told = suspicion(self._report)
        return [told] if told else []

    def _form(self, pdf: bytes) -> Fields:
        report = self._report
        return {
            "contentType": "application/pdf",
            "language": "en",
            "data": base64.b64encode(pdf).decode(),
            "size": len(pdf),
            # FHIR defines this element as SHA-1; it guards against accidents, not attacks.
            "hash": base64.b64encode(hashlib.sha1(pdf, usedforsecurity=False).digest()).decode(),
            "title": f"{report.code}, {report.status} report, version {report.version}",
            "creation": instant(report.made_at),
        }

    def _conclusion_of_signer(self) -> Fields:
        report, signature = self._report, self._report.signature
        if signature is None:  # asked for with a signature only
            raise ValueError("nobody has signed")
        fields = self._observation("result", self._case, v.SMEAR, by_model=False)
        fields["performer"] = [reference("person", person_of(self._naming, signature))]
        fields["issued"] = instant(signature.signed_at)
        fields["valueCodeableConcept"] = self._conclusion()
        self._interpret(fields, report.flag)
        notes = remarks(signature)
        if notes:
            fields["note"] = [{"text": text, "time": instant(signature.signed_at)} for text in notes]
        sources = [frame for frame in report.frames if frame.state in ("report", "refer")]
        if sources:
            fields["derivedFrom"] = [reference("frame", frame.frame_id) for frame in sources]
        return fields

    def _answer_of_model(self, kind: str, code: v.Code) -> Fields:
        report = self._report
        fields = self._observation(kind, self._case, code)
        if report.result.urgency == "waiting":
            fields["dataAbsentReason"] = concept(v.NOT_YET)
        elif report.result.leading is None:
            fields["dataAbsentReason"] = concept(v.NOT_KNOWN)
        else:
            fields["valueCodeableConcept"] = self._finding()
        self._interpret(fields, report.model_flag if report.signature else report.flag)
        notes = [
            *self._suspicion(),
            *report.result.reasons,
            *(f"{one.sentence} ({one.frames} frames)" for one in report.referrals),
        ]
        if notes:
            fields["note"] = [{"text": text} for text in notes]
        members = [reference("probability", f"{self._case}/{name}") for name in report.result.shares]
        if members:
            fields["hasMember"] = members
        fields["component"] = [
            {"code": concept(one), "valueInteger": count}
            for one, count in (
                (v.COUNTED, report.result.counted),
                (v.REFERRED, report.result.referred),
                (v.UNREAD, report.frame_count - report.read),
            )
        ]
        sources = [frame for frame in report.frames if frame.state == "report"]
        if sources:
            fields["derivedFrom"] = [reference("frame", frame.frame_id) for frame in sources]
        return fields

    def _probability(self, name: DiseaseClass) -> Fields:
        share = self._report.result.shares[name]
        fields = self._observation("probability", f"{self._case}/{name}", v.PROBABILITIES[name])
        fields["valueQuantity"] = percent(share.probability)
        self._interpret(fields, self._report.flag_of(name))
        fields["component"] = [
            {"code": concept(v.INTERVAL_LOW), "valueQuantity": percent(share.low)},
            {"code": concept(v.INTERVAL_HIGH), "valueQuantity": percent(share.high)},
        ]
        sources = [frame for frame in self._report.frames if frame.state == "report"]
        if sources:
            fields["derivedFrom"] = [reference("frame", frame.frame_id) for frame in sources]
        return fields

    def _observation(self, kind: str, name: str, code: v.Code, *, by_model: bool = True) -> Fields:
        report = self._report
        fields = self._naming.start("Observation", kind, name, speaker="model" if by_model else "clinician")
        fields |= {
            "identifier": [{"system": f"{v.LOCAL}/{kind}", "value": name}],
            "status": report.status,
            "category": [concept(v.LABORATORY)],
            "code": concept(code),
            "subject": self._naming.subject,
            "effectiveDateTime": instant(report.opened_at),
            "issued": instant(report.changed_at),
            "specimen": reference("specimen", self._case),
        }
        if by_model and len(report.models) == 1:
            # The element holds one device; with several models, provenance names them all.
            fields["device"] = reference("model", report.models[0].weights_sha256)
        return fields

    def _specimen(self) -> Fields:
        return self._naming.start("Specimen", "specimen", self._case) | {
            "identifier": [{"system": f"{v.LOCAL}/specimen", "value": self._case}],
            "accessionIdentifier": self._naming.accession,
            "type": concept(v.WHOLE_BLOOD),
            "subject": self._naming.subject,
        }

    def _frame(self, frame: ReportFrame) -> Fields:
        address = f"{self._desk_url}/api/v1/frames/{frame.frame_id}/image"
        attachment: Fields = {
            "contentType": _MEDIA_TYPES[frame.encoding],
            **({"url": address} if self._desk_url is not None else {}),
            "title": caption(frame),
            "creation": instant(frame.captured_at),
        }
        identifiers = [
            {"system": f"{v.LOCAL}/frame", "value": frame.frame_id},
            {"system": f"{v.LOCAL}/image-sha256", "value": frame.image_sha256},
        ]
        if self._release == "r4b":
            return self._naming.start("Media", "frame", frame.frame_id) | {
                "identifier": identifiers,
                "status": "completed",
                "subject": self._naming.subject,
                "createdDateTime": instant(frame.captured_at),
                "device": reference("microscope", f"{self._report.site}/{frame.device}"),
                "width": frame.width,
                "height": frame.height,
                "content": attachment,
                **({"note": [{"text": text} for text in frame.reasons]} if frame.reasons else {}),
            }
        attachment |= {"width": frame.width, "height": frame.height}
        return self._naming.start("DocumentReference", "frame", frame.frame_id) | {
            "identifier": identifiers,
            "status": "current",
            "docStatus": self._report.status,
            "subject": self._naming.subject,
            "date": instant(frame.captured_at),
            "author": [reference("microscope", f"{self._report.site}/{frame.device}")],
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
        fields = self._naming.start("Device", kind, name)
        fields["identifier"] = [{"system": f"{v.LOCAL}/{kind}", "value": name}]
        if self._release == "r4b":
            fields["deviceName"] = [{"name": shown or name, **named}]
            fields["type"] = concept(code)
        else:
            fields["name"] = [{"value": shown or name, **named}]
            fields["type"] = [concept(code)]
        if version:
            fields["version"] = [{"value": version}]
        return fields

    def _conclusion(self) -> Fields:
        signature = self._report.signature
        if signature is None:  # asked for with a signature only
            raise ValueError("nobody has signed")
        return concept(*v.codes_of(signature.conclusion, signature.finer), text=signature.words)

    def _finding(self) -> Fields:
        return concept(*v.finding_of(self._report.result), text=self._report.headline)

    def _interpret(self, fields: Fields, flag: str) -> None:
        if flag:
            fields["interpretation"] = [concept(v.INTERPRETATIONS[flag])]
