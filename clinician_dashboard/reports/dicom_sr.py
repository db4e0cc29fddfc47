"""The case as a DICOM Comprehensive SR: a measurement report (PS3.16, TID 1500), made by a pure function.

One group of measurements holds the model's answer over the case: the finding, and for each class the calibrated probability with
the upper and lower uncertainty of its 95 % interval, by an algorithm that is named with its version and the hash of its weights. A
signed report begins with a group that holds the clinician's conclusion. Both name the frames as source images, by the
identifiers that `clinician_dashboard.reports.dicom` gives them. The finding is coded with SNOMED CT where a code is certain, else with
ours; ours stands beside it in any case.

An unsigned document is PRELIMINARY and UNVERIFIED, a signed one FINAL and VERIFIED by its signer; an amendment names the document
before it. Comments, why it differs, the critical call and the intended use are text items after the measurements, and so is SIMULATED.
"""

import io
from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Any, Final

from clinician_dashboard.reports import vocabulary as v
from clinician_dashboard.reports.case_report import CaseReport, ReportFrame, ReportModel, Signature
from clinician_dashboard.reports.dicom import describe, uid_of
from clinician_dashboard.reports.errors import MissingPart, ReportError
from clinician_dashboard.reports.telling import intended_use, suspicion, told_call

SERIES_NUMBER: Final = 900
LONGEST_NAME: Final = 60
LONGEST_MEANING: Final = 64
"""Of its types: PN is 64 a group, LO is 64 (PS3.5, 6.2)."""


def structured_report(report: CaseReport) -> bytes:
    """Return the report as a DICOM file (PS3.10).

    Raises:
        MissingPart: If pydicom or highdicom is not installed.
        ReportError: If no frame was read, so that there is nothing to report on.
    """
    try:
        import highdicom  # noqa: PLC0415 - only this format needs it, and it takes a second
        from pydicom import dcmwrite  # noqa: PLC0415
    except ImportError:
        raise MissingPart(
            "a DICOM structured report needs the packages pydicom and highdicom: install the extra hemolink[reports]"
        ) from None
    frames = [frame for frame in report.frames if frame.prediction is not None]
    if not frames:
        raise ReportError("no frame of this case has been read, so a structured report has nothing to say")
    document = _Document(report, frames, highdicom.sr).build()
    held = io.BytesIO()
    dcmwrite(held, document, enforce_file_format=True)
    return held.getvalue()


class _Document:
    """Builds one document."""

    def __init__(self, report: CaseReport, frames: Sequence[ReportFrame], sr: Any) -> None:
        self._report = report
        self._frames = frames
        self._sr = sr
        self._case = f"{report.site}/{report.code}"

    def build(self) -> Any:
        report, sr = self._report, self._sr
        signature = report.signature
        content = sr.MeasurementReport(
            observation_context=self._observers(),
            procedure_reported=self._coded(v.SMEAR),
            imaging_measurements=list(self._groups()),
        )
        content[0].ContentSequence.extend(self._remarks())
        verified = (
            {
                "is_verified": True,
                "verifying_observer_name": _person(signature),
                "verifying_organization": report.site,
            }
            if signature
            else {}
        )
        document = sr.ComprehensiveSR(
            evidence=[self._described(frame) for frame in self._frames],
            content=content[0],
            series_instance_uid=uid_of("report-series", self._case),
            series_number=SERIES_NUMBER,
            sop_instance_uid=self._uid(report.version),
            instance_number=report.version,
            manufacturer="Hemolink",
            is_complete=True,
            is_final=signature is not None,
            institution_name=report.site,
            previous_versions=self._before(signature),
            **verified,
        )
        self._date(document, signature)
        document.SpecificCharacterSet = "ISO_IR 192"
        document.SeriesDescription = (
            "SIMULATED blood smear report" if report.simulated else "Blood smear report"
        )
        document.SoftwareVersions = report.software
        document.DeidentificationMethod = "Never held: the case code is an opaque accession"
        document.PatientIdentityRemoved = "YES"
        return document

    def _date(self, document: Any, signature: Signature | None) -> None:
        """Every moment is the report's own, so that the same report gives the same file."""
        made = self._report.as_of.astimezone(UTC)
        date, time = made.strftime("%Y%m%d"), made.strftime("%H%M%S.%f")
        document.ContentDate = document.SeriesDate = document.InstanceCreationDate = date
        document.ContentTime = document.SeriesTime = document.InstanceCreationTime = time
        document.TimezoneOffsetFromUTC = "+0000"
        for equipment in document.get("ContributingEquipmentSequence", ()):
            equipment.ContributionDateTime = f"{date}{time}"
        if signature is not None:
            document.VerifyingObserverSequence[0].VerificationDateTime = f"{date}{time}"

    def _before(self, signature: Signature | None) -> list[Any] | None:
        if signature is None or not signature.earlier:
            return None
        before = self._described(self._frames[0])
        before.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
        before.SOPInstanceUID = self._uid(signature.earlier[-1].version)
        before.SeriesInstanceUID = uid_of("report-series", self._case)
        return [before]

    def _uid(self, version: int) -> str:
        kind = "signed" if self._report.signature else "preliminary"
        return uid_of("report", f"{self._case}/{kind}/{version}")

    def _described(self, frame: ReportFrame) -> Any:
        report = self._report
        return describe(
            frame, site=report.site, code=report.code, software=report.software, opened_at=report.opened_at
        )

    def _observers(self) -> Any:
        report, sr = self._report, self._sr
        from pydicom.sr.codedict import codes  # noqa: PLC0415

        device = sr.ObserverContext(
            observer_type=codes.DCM.Device,
            observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
                uid=uid_of("device", "dashboard"),
                name="Hemolink",
                manufacturer_name="Hemolink",
                model_name="clinician dashboard",
                serial_number=report.software,
            ),
        )
        signature = report.signature
        if signature is None:
            return sr.ObservationContext(observer_device_context=device)
        person = sr.ObserverContext(
            observer_type=codes.DCM.Person,
            observer_identifying_attributes=sr.PersonObserverIdentifyingAttributes(
                name=_person(signature),
                login_name=signature.login[:LONGEST_MEANING],
                organization_name=report.site,
            ),
        )
        return sr.ObservationContext(observer_person_context=person, observer_device_context=device)

    def _groups(self) -> Iterator[Any]:
        report, sr = self._report, self._sr
        signature = report.signature
        if signature is not None:
            concluded = v.codes_of(signature.conclusion, signature.finer)
            yield sr.MeasurementsAndQualitativeEvaluations(
                tracking_identifier=self._tracking("conclusion"),
                finding_type=self._coded(concluded[-1]),
                qualitative_evaluations=[self._evaluation(v.SMEAR, concluded[0])],
                source_images=self._sources(("report", "refer")),
            )
        found = v.finding_of(report.result)
        yield sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=self._tracking("model"),
            finding_type=self._coded(found[-1]),
            algorithm_id=self._algorithm(report.models[0]) if len(report.models) == 1 else None,
            measurements=[self._probability(name) for name in report.result.shares] or None,
            qualitative_evaluations=[self._evaluation(v.MODEL_FINDING, found[0])],
            source_images=self._sources(("report",)),
        )

    def _tracking(self, what: str) -> Any:
        return self._sr.TrackingIdentifier(
            uid=uid_of("tracking", f"{self._case}/{what}"), identifier=f"{self._report.code} {what}"
        )

    def _sources(self, states: tuple[str, ...]) -> list[Any] | None:
        chosen = [frame for frame in self._frames if frame.state in states]
        made = []
        for frame in chosen:
            described = self._described(frame)
            made.append(
                self._sr.SourceImageForMeasurementGroup(
                    referenced_sop_class_uid=described.SOPClassUID,
                    referenced_sop_instance_uid=described.SOPInstanceUID,
                )
            )
        return made or None

    def _probability(self, name: Any) -> Any:
        share = self._report.result.shares[name]
        return self._sr.Measurement(
            name=self._coded(v.PROBABILITIES[name]),
            value=round(share.probability * 100, 1),
            unit=self._coded(v.PERCENT, meaning="percent"),
            properties=self._sr.MeasurementProperties(
                upper_measurement_uncertainty=round((share.high - share.probability) * 100, 1),
                lower_measurement_uncertainty=round((share.probability - share.low) * 100, 1),
            ),
        )

    def _evaluation(self, name: v.Code, value: v.Code) -> Any:
        return self._sr.QualitativeEvaluation(name=self._coded(name), value=self._coded(value))

    def _algorithm(self, model: ReportModel) -> Any:
        simulated = ["SIMULATED: learnt from simulated smears"] if model.simulated else []
        return self._sr.AlgorithmIdentification(
            name=model.name,
            version=model.version,
            parameters=[
                *simulated,
                f"weights SHA-256 {model.weights_sha256}",
                f"trained on: {model.training_data or 'not stated'}",
            ],
        )

    def _remarks(self) -> Iterator[Any]:
        report = self._report
        signature = report.signature
        told: list[tuple[v.Code, str]] = []
        if report.simulated:
            told.append((v.SIMULATED, "SIMULATED"))
        if signature is not None:
            told += [
                (v.COMMENT, signature.comment),
                (v.WHY_DIFFERENT, signature.reason if signature.agrees is False else ""),
                (v.WHY_AMENDED, signature.amend_reason),
                (v.CRITICAL_CALL, told_call(signature)),
                (v.SIGNED_CONTENT, signature.sha256),
            ]
        told.append((v.READERS_SUSPICION, suspicion(report)))
        told += [(v.REASON, f"{one.sentence} ({one.frames} frames)") for one in report.referrals]
        told.append((v.INTENDED_USE, intended_use(report)))
        for code, text in told:
            if text.strip():
                yield self._sr.TextContentItem(
                    name=self._coded(code), value=text, relationship_type="CONTAINS"
                )

    def _coded(self, code: v.Code, *, meaning: str = "") -> Any:
        return self._sr.CodedConcept(
            value=code.code,
            scheme_designator=code.table,
            meaning=(meaning or code.display)[:LONGEST_MEANING],
        )


def _person(signature: Signature) -> str:
    """A person's name as PN: the whole of it as the family name, since nobody asked for its parts."""
    plain = "".join(one if one.isprintable() and one not in "^=\\" else " " for one in signature.name)
    return (" ".join((plain or signature.login).split())[:LONGEST_NAME] or "unnamed") + "^"
