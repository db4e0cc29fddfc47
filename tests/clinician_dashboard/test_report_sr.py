"""Structured reports, judged by highdicom's reader, by dciodvfy (Debian's dicom3tools) and, images too, by dicom-validator."""

import io
import os
import shutil
import subprocess
from dataclasses import replace

import pydicom
import pytest
from dicom_validator.validator.dicom_file_validator import DicomFileValidator
from highdicom import sr
from pydicom.datadict import keyword_for_tag

from clinician_dashboard.reports import dicom_sr
from clinician_dashboard.reports.dicom import dicom_image
from clinician_dashboard.reports.errors import MissingPart, ReportError
from tests.clinician_dashboard.dicom_tables import load
from tests.clinician_dashboard.report_cases import CASES, SIGNED, START, image

MICROSCOPIC, COMPREHENSIVE = "1.2.840.10008.5.1.4.1.1.77.1.2", "1.2.840.10008.5.1.4.1.1.88.33"
READ = {name: make for name, make in {**CASES, **SIGNED}.items() if name not in ("waiting", "no frame")}

STRANGEST = ("critical", "referred", "two models", "hostile", "amended, overridden", "superseded, hostile")


@pytest.fixture(params=READ)
def case(request):
    return READ[request.param]()


def made(case):
    return pydicom.dcmread(io.BytesIO(dicom_sr.structured_report(case)))


def evaluations(group):
    (beside,) = group.get_qualitative_evaluations()
    return [(one.scheme_designator, one.value) for one in (group.finding_type, beside.value)]


def texts(document):
    return {
        item.ConceptNameCodeSequence[0].get("CodeValue")
        or item.ConceptNameCodeSequence[0].LongCodeValue: item.TextValue
        for item in document.ContentSequence
        if item.ValueType == "TEXT"
    }


def test_every_case_reads_back_as_a_measurement_report(case):
    file = made(case)
    document = sr.ComprehensiveSR.from_dataset(file)
    groups = document.content.get_image_measurement_groups()
    signed = case.signature is not None
    assert len(groups) == (2 if signed else 1)
    model = groups[-1]
    shares = {one.name.value: (one.value, one.unit.value) for one in model.get_measurements()}
    assert shares == {
        f"probability-{name}": (round(share.probability * 100, 1), "%")
        for name, share in case.result.shares.items()
    }
    assert (file.PreliminaryFlag, file.VerificationFlag, file.CompletionFlag) == (
        ("FINAL", "VERIFIED", "COMPLETE") if signed else ("PRELIMINARY", "UNVERIFIED", "COMPLETE")
    )
    assert ("SIMULATED" in file.SeriesDescription) == ("simulated" in texts(file)) == case.simulated
    assert "medical device" in texts(file)["intended-use"]
    assert dicom_sr.structured_report(case) == dicom_sr.structured_report(case)
    # Whoever has the images finds them by what the document names.
    named = {
        item.ReferencedSOPInstanceUID
        for study in file.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    frame = next(one for one in case.frames if one.prediction)
    file = pydicom.dcmread(
        io.BytesIO(
            dicom_image(
                frame, image(), site=case.site, code=case.code, software="1", opened_at=case.opened_at
            )
        )
    )
    assert file.SOPInstanceUID in named
    assert file.StudyInstanceUID == document.StudyInstanceUID
    assert (file.StudyDate, file.StudyTime) == (document.StudyDate, document.StudyTime)


def test_findings_are_coded_with_snomed_and_the_signer_verifies():
    preliminary, final, amended = (
        made(one) for one in (CASES["critical"](), SIGNED["final"](), SIGNED["amended, overridden"]())
    )
    groups = sr.ComprehensiveSR.from_dataset(preliminary).content.get_image_measurement_groups()
    assert evaluations(groups[0]) == [("SCT", "91861009"), ("99HML", "AML")]
    signed = sr.ComprehensiveSR.from_dataset(final).content.get_image_measurement_groups()
    assert evaluations(signed[0]) == [("SCT", "110004001"), ("99HML", "AML-M3")]
    assert len(signed[0].source_images) == 24
    assert len(signed[1].source_images) == 20  # referred frames are no part of the model's answer
    (verifier,) = final.VerifyingObserverSequence
    assert str(verifier.VerifyingObserverName) == "Dr Ada Example^"
    assert verifier.VerificationDateTime.startswith("20261122140000")
    assert texts(final)["comment"] == "Auer rods in several cells."
    assert "read back" in texts(final)["critical-call"]
    (before,) = amended.PredecessorDocumentsSequence
    assert (
        before.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        == final.SOPInstanceUID
    )
    uids = {file.SOPInstanceUID for file in (preliminary, final, amended)}
    assert len(uids) == 3
    assert texts(amended)["why-amended"] == "The flow cytometry came."


def test_a_case_that_nobody_has_read_has_nothing_to_report_on(monkeypatch):
    with pytest.raises(ReportError, match="no frame of this case has been read"):
        dicom_sr.structured_report(CASES["waiting"]())
    monkeypatch.setitem(__import__("sys").modules, "highdicom", None)
    with pytest.raises(MissingPart, match=r"install the extra hemolink\[reports\]"):
        dicom_sr.structured_report(CASES["critical"]())


@pytest.mark.parametrize("name", STRANGEST)
def test_dciodvfy_finds_no_error(name, tmp_path):
    case = READ[name]()
    program = shutil.which("dciodvfy")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("dciodvfy is not installed: apt-get install dicom3tools")
        pytest.skip("dciodvfy is not installed (dicom3tools)")
    file = tmp_path / "report.dcm"
    file.write_bytes(dicom_sr.structured_report(case))
    said = subprocess.run([program, str(file)], capture_output=True, text=True, check=False)
    assert "ComprehensiveSR" in said.stdout + said.stderr
    assert [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")] == []


class Heard:
    """Takes the validator's findings instead of its log."""

    def handle_validation_start(self, *_given):
        pass

    def handle_validation_result(self, _result):
        pass


@pytest.fixture(scope="module")
def validator():
    tables, source = load(MICROSCOPIC, COMPREHENSIVE)
    print(f"dicom-validator with {source}")
    return DicomFileValidator(tables, error_handler=Heard())


def findings(validator, content, tmp_path):
    file = tmp_path / "file.dcm"
    file.write_bytes(content)
    (result,) = validator.validate(file).values()
    return [
        (module, str(tag), error)
        for module, tags in result.module_errors.items()
        for tag, error in tags.items()
    ]


@pytest.mark.parametrize("name", STRANGEST)
def test_dicom_validator_finds_no_error(name, validator, tmp_path):
    case = READ[name]()
    assert findings(validator, dicom_sr.structured_report(case), tmp_path) == []
    frame = next(one for one in case.frames if one.prediction)
    for changed in (frame, replace(frame, pixel_size_um=None, number=0, simulated="")):
        content = dicom_image(changed, image(), site=case.site, code=case.code, software="1", opened_at=START)
        assert findings(validator, content, tmp_path) == []


def items(content):
    for item in content:
        yield item
        yield from items(item.get("ContentSequence", ()))


def first(file, value_type):
    return next(one for one in items(file.ContentSequence) if one.get("ValueType") == value_type)


# What an item holds hangs on its value type (PS3.3, table C.17-5 and the macros of C.18), and a code on its length (table 8.8-1).
SR_BROKEN = {
    "Modality": lambda file: delattr(file, "Modality"),
    "VerifyingObserverSequence": lambda file: delattr(file, "VerifyingObserverSequence"),
    "DeidentificationMethod": lambda file: delattr(file, "DeidentificationMethod"),
    "CompletionFlag": lambda file: setattr(file, "CompletionFlag", "NEARLY"),
    "ConceptNameCodeSequence": lambda file: delattr(file, "ConceptNameCodeSequence"),
    "ValueType": lambda file: setattr(first(file, "TEXT"), "ValueType", "PROSE"),
    "RelationshipType": lambda file: delattr(first(file, "TEXT"), "RelationshipType"),
    "TextValue": lambda file: delattr(first(file, "TEXT"), "TextValue"),
    "PersonName": lambda file: delattr(first(file, "PNAME"), "PersonName"),
    "UID": lambda file: delattr(first(file, "UIDREF"), "UID"),
    "MeasuredValueSequence": lambda file: delattr(first(file, "NUM"), "MeasuredValueSequence"),
    "MeasurementUnitsCodeSequence": lambda file: delattr(
        first(file, "NUM").MeasuredValueSequence[0], "MeasurementUnitsCodeSequence"
    ),
    "ConceptCodeSequence": lambda file: delattr(first(file, "CODE"), "ConceptCodeSequence"),
    "CodingSchemeDesignator": lambda file: delattr(
        first(file, "CODE").ConceptCodeSequence[0], "CodingSchemeDesignator"
    ),
    "CodeValue": lambda file: delattr(first(file, "CODE").ConceptCodeSequence[0], "CodeValue"),
    "ReferencedSOPSequence": lambda file: delattr(first(file, "IMAGE"), "ReferencedSOPSequence"),
    "ContinuityOfContent": lambda file: delattr(first(file, "CONTAINER"), "ContinuityOfContent"),
    # Of another value type, so not allowed here.
    "NumericValueQualifierCodeSequence": lambda file: setattr(
        first(file, "TEXT"), "NumericValueQualifierCodeSequence", []
    ),
}
IMAGE_BROKEN = {
    "ImageType": lambda file: delattr(file, "ImageType"),
    "DeidentificationMethod": lambda file: delattr(file, "DeidentificationMethod"),
    "PlanarConfiguration": lambda file: delattr(file, "PlanarConfiguration"),
    "CodeValue": lambda file: delattr(file.ContainerTypeCodeSequence[0], "CodeValue"),
    "BurnedInAnnotation": lambda file: setattr(file, "BurnedInAnnotation", "PERHAPS"),
    "SpecimenDescriptionSequence": lambda file: delattr(file, "SpecimenDescriptionSequence"),
    "LocalNamespaceEntityID": lambda file: delattr(
        file.IssuerOfTheContainerIdentifierSequence[0], "LocalNamespaceEntityID"
    ),
}


@pytest.fixture(scope="module")
def whole(validator, tmp_path_factory):
    """A report and an image in which the validator finds nothing."""
    frame = CASES["critical"]().frames[0]
    made = {
        "report": dicom_sr.structured_report(SIGNED["final"]()),
        "image": dicom_image(frame, image(), site="ward", code="x", software="1", opened_at=START),
    }
    assert [findings(validator, one, tmp_path_factory.mktemp("whole")) for one in made.values()] == [[], []]
    return made


@pytest.mark.parametrize(
    ("kind", "keyword"),
    [*(("report", keyword) for keyword in SR_BROKEN), *(("image", keyword) for keyword in IMAGE_BROKEN)],
)
def test_dicom_validator_finds_what_is_broken(kind, keyword, whole, validator, tmp_path):
    file = pydicom.dcmread(io.BytesIO(whole[kind]))
    {"report": SR_BROKEN, "image": IMAGE_BROKEN}[kind][keyword](file)
    held = io.BytesIO()
    file.save_as(held)
    found = {
        keyword_for_tag(f"0x{tag.rpartition('(')[2][:-1].replace(',', '')}")
        for _module, tag, _error in findings(validator, held.getvalue(), tmp_path)
    }
    assert keyword in found
