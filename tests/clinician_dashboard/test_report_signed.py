"""Reports of signed cases: the clinician's word first, the model's as evidence, the same judges as for preliminary ones."""

import io
import json
from dataclasses import replace

import pypdf
import pytest

from clinician_dashboard.reports import fhir, hl7, pdf, vocabulary
from clinician_dashboard.review.conclusions import CONCLUSIONS, FINER
from tests.clinician_dashboard.report_cases import CASES, SIGNED, image, signature


@pytest.fixture(params=SIGNED)
def case(request):
    return SIGNED[request.param]()


def resources(bundle, kind):
    return [one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == kind]


def by_code(bundle):
    return {one["code"]["coding"][0]["code"]: one for one in resources(bundle, "Observation")}


def labels(resource):
    return {label["code"] for label in resource.get("meta", {}).get("security", ())} - {"HTEST"}


@pytest.mark.parametrize("release", ["r4b", "r5"])
def test_every_signed_case_is_a_valid_bundle_that_says_who_said_what(case, release):
    bundle = json.loads(json.dumps(fhir.fhir_bundle(case, release, pdf=b"%PDF")))
    fhir.check_bundle(bundle, release)
    here = {entry["fullUrl"] for entry in bundle["entry"]}
    assert {part.split('"')[0] for part in json.dumps(bundle).split('"reference": "')[1:]} <= here
    (diagnostic,) = resources(bundle, "DiagnosticReport")
    seen = by_code(bundle)
    status = "final" if case.version == 1 else "amended"
    assert {diagnostic["status"], *(one["status"] for one in seen.values())} == {status}
    ours = diagnostic["conclusionCode"][0]["coding"][0]
    assert ours["code"].startswith(case.signature.conclusion)
    assert seen["5909-7"]["valueCodeableConcept"] == diagnostic["conclusionCode"][0]
    (person,) = resources(bundle, "Practitioner")
    assert seen["5909-7"]["performer"] == diagnostic["resultsInterpreter"]
    assert diagnostic["resultsInterpreter"][0]["reference"].endswith(person["id"])
    assert "device" not in seen["5909-7"]
    # The label of the machine stays on what the machine said, and goes from the rest.
    assert labels(diagnostic) == labels(seen["5909-7"]) == {"CLINAST"}
    assert labels(seen["model-finding"]) == {"AIAST"}
    assert all(labels(one) == {"AIAST"} for code, one in seen.items() if code.startswith("probability"))
    assert labels(resources(bundle, "Specimen")[0]) == set()
    of_model, signed = resources(bundle, "Provenance")
    assert labels(of_model) == {"AIAST"}
    assert signed["signature"][0]["who"] == diagnostic["resultsInterpreter"][0]
    assert signed["target"][0]["reference"].endswith(diagnostic["id"])
    (audited,) = resources(bundle, "AuditEvent")
    assert audited["agent"][0]["requestor"] is True
    values = {one["system"].rpartition("/")[2]: one["value"] for one in diagnostic["identifier"]}
    assert values["signed-sha256"] == case.signature.sha256
    assert values["report-version"].endswith(f"/{case.version}")
    assert diagnostic["conclusion"].startswith("SIMULATED.") == case.simulated


def test_a_report_keeps_its_ids_from_preliminary_to_amended():
    bundles = [
        fhir.fhir_bundle(one, "r4b")
        for one in (CASES["critical"](), SIGNED["final"](), SIGNED["amended, overridden"]())
    ]
    reports = [resources(bundle, "DiagnosticReport")[0] for bundle in bundles]
    assert len({one["id"] for one in reports}) == 1
    assert len({json.dumps(one["identifier"][0]) for one in reports}) == 1
    assert [one["status"] for one in reports] == ["preliminary", "final", "amended"]
    acts = [resources(bundle, "Provenance")[-1]["meta"]["tag"][0]["code"] for bundle in bundles]
    assert len(set(acts)) == 3
    revised = resources(bundles[2], "Provenance")[-1]["entity"][-1]
    assert revised["role"] == "revision"
    assert revised["what"]["identifier"]["value"] == "ward/HL-0001/1"
    assert "Amended: The flow cytometry came." in reports[2]["conclusion"]


def test_every_conclusion_that_can_be_signed_has_its_codes():
    for code in CONCLUSIONS:
        for finer in ("", *(one.code for one in FINER.get(code, ()))):
            case = replace(SIGNED["final"](), signature=signature(conclusion=code, finer=finer))
            fhir.check_bundle(fhir.fhir_bundle(case, "r5"), "r5")
            hl7.check_message(hl7.oru_message(case))
    assert [one.code for one in vocabulary.codes_of("AML", "M3")] == ["AML-M3", "110004001"]
    assert [one.code for one in vocabulary.codes_of("AML", "M1")] == ["AML-M1", "91861009"]
    assert [one.code for one in vocabulary.codes_of("other", "")] == ["other"]
    flags = {
        code: replace(SIGNED["final"](), signature=signature(conclusion=code)).flag for code in CONCLUSIONS
    }
    assert flags == {
        "healthy": "N",
        "ALL": "AA",
        "AML": "AA",
        "CLL": "A",
        "CML": "A",
        "other": "A",
        "insufficient": "",
    }


def test_every_signed_case_is_an_oru_that_hl7apy_accepts(case):
    message = hl7.oru_message(case)
    hl7.check_message(message)
    segments = [segment.split("|") for segment in message.split("\r") if segment]
    assert {segment[0] for segment in segments} == {"MSH", "SFT", "PID", "OBR", "NTE", "OBX"}
    status = "F" if case.version == 1 else "C"
    observations = [segment for segment in segments if segment[0] == "OBX"]
    assert {segment[11] for segment in observations} == {status}
    assert segments[3][25] == status
    assert segments[3][32].startswith(f"{case.signature.login}&")
    first = observations[0]
    assert first[3].startswith("5909-7^")
    assert first[5].startswith(case.signature.conclusion)
    assert first[8] == case.flag
    assert first[16].startswith(f"{case.signature.login}^")
    codes = [segment[3].split("^")[0] for segment in observations]
    assert codes.count("model-finding") == codes.count("signed-content") == 1
    assert ("why-amended" in codes) == (case.version > 1)


def words_of(paper):
    return [" ".join(page.extract_text().split()) for page in pypdf.PdfReader(io.BytesIO(paper)).pages]


def test_every_signed_case_prints_with_conclusion_signature_and_history(case):
    paper = pdf.case_pdf(case, {one.frame_id: image(one.number) for one in pdf.pictured_frames(case)})
    assert paper == pdf.case_pdf(case, {one.frame_id: image(one.number) for one in pdf.pictured_frames(case)})
    pages = words_of(paper)
    for page in pages:
        assert "Signed by a clinician" in page
        assert "Not signed" not in page
        assert ("SIMULATED, not for any patient's care" in page) == case.simulated
        assert ("SUPERSEDED by version 2" in page) == (case.signature.superseded_by is not None)
    text = " ".join(pages)
    assert case.signature.sha256 in text
    assert f"Version {case.version}, {case.status}" in text
    assert "Supporting evidence: answer of the model" in text
    assert text.index(case.signature.words[:20]) < text.index("Supporting evidence: answer of the model")
    assert "AI preliminary" not in text
    for earlier in case.signature.earlier:
        assert earlier.signer in text
    if case.signature.call:
        assert "read back" in text
