"""Reports as pure functions: FHIR, HL7 v2 and PDF of cases built here, judged by libraries that are not ours."""

import base64
import io
import json
import sys
import unicodedata
from dataclasses import replace

import numpy as np
import pypdf
import pytest
from hl7apy.parser import parse_message

from clinician_dashboard.reports import fhir, hl7, pdf, pictures, vocabulary
from clinician_dashboard.reports.case_report import choose_frames
from clinician_dashboard.reports.errors import InvalidReport, MissingPart
from tests.clinician_dashboard.report_cases import CASES, MODEL, frame, image, report, signature


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]()


def resources(bundle, kind):
    return [one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == kind]


@pytest.mark.parametrize("release", ["r4b", "r5"])
def test_every_case_is_a_valid_bundle_whose_references_resolve(case, release):
    bundle = json.loads(json.dumps(fhir.fhir_bundle(case, release)))
    fhir.check_bundle(bundle, release)
    here = {entry["fullUrl"] for entry in bundle["entry"]}
    assert len(here) == len(bundle["entry"])
    text = json.dumps(bundle)
    references = [part.split('"')[0] for part in text.split('"reference": "')[1:]]
    assert references
    assert set(references) <= here
    (diagnostic,) = resources(bundle, "DiagnosticReport")
    assert diagnostic["status"] == "preliminary"
    assert "name" not in diagnostic["subject"]
    assert diagnostic["subject"]["identifier"]["value"] == case.code
    assert not resources(bundle, "Patient")
    for resource in (one["resource"] for one in bundle["entry"]):
        labels = {label["code"] for label in resource["meta"]["security"]}
        assert labels == ({"AIAST", "HTEST"} if case.simulated else {"AIAST"})


@pytest.mark.parametrize("release", ["r4b", "r5"])
def test_a_bundle_says_what_the_record_says(release):
    case = CASES["critical"]()
    paper = pdf.case_pdf(case, {})
    bundle = fhir.fhir_bundle(case, release, pdf=paper)
    fhir.check_bundle(bundle, release)
    (diagnostic,) = resources(bundle, "DiagnosticReport")
    assert base64.b64decode(diagnostic["presentedForm"][0]["data"]) == paper
    assert diagnostic["conclusion"].startswith("SIMULATED.")
    assert {coding["code"] for coding in diagnostic["conclusionCode"][0]["coding"]} == {"91861009", "AML"}
    by_code = {one["code"]["coding"][0]["code"]: one for one in resources(bundle, "Observation")}
    assert len(by_code) == 6
    share = case.result.shares["AML"]
    aml = by_code["probability-AML"]
    assert aml["valueQuantity"]["value"] == round(share.probability * 100, 1)
    ends = [part["valueQuantity"]["value"] for part in aml["component"]]
    assert ends == [round(share.low * 100, 1), round(share.high * 100, 1)]
    assert aml["interpretation"][0]["coding"][0]["code"] == "AA"
    assert "interpretation" not in by_code["probability-CLL"]
    counts = [part["valueInteger"] for part in by_code["5909-7"]["component"]]
    assert counts == [20, 4, 0]
    assert len(resources(bundle, "Media" if release == "r4b" else "DocumentReference")) == 24
    model = next(one for one in resources(bundle, "Device") if "note" in one)
    assert any("simulated smears, simulator 1.0" in note["text"] for note in model["note"])
    again = fhir.fhir_bundle(replace(case, version=99), release)
    assert resources(again, "DiagnosticReport")[0]["id"] == diagnostic["id"]


def test_a_wrong_code_a_wrong_display_or_a_wrong_status_is_refused():
    case = CASES["critical"]()
    for path, value in (
        (("status",), "provisional"),
        (("code", "coding", 0, "display"), "Something else"),
        (("code", "coding", 0, "code"), "34994-4"),
    ):
        bundle = fhir.fhir_bundle(case, "r4b")
        (part,) = resources(bundle, "DiagnosticReport")
        for step in path[:-1]:
            part = part[step]
        part[path[-1]] = value
        with pytest.raises(InvalidReport, match="codes that are not in the tables"):
            fhir.check_bundle(bundle, "r4b")
    with pytest.raises(InvalidReport, match="breaks its own structure"):
        fhir.check_bundle({"resourceType": "Bundle", "typo": 1}, "r5")


def _verhoeff(digits):
    """Zero for a SNOMED CT identifier (release file specification, "Check-digit"): J. Verhoeff's dihedral scheme."""
    times = [[(a + b) % 5 if a < 5 and b < 5 else None for b in range(10)] for a in range(10)]
    for a in range(10):
        for b in range(10):
            if a < 5 <= b:
                times[a][b] = (a + b) % 5 + 5
            elif a >= 5 > b:
                times[a][b] = (a - b) % 5 + 5
            elif a >= 5 and b >= 5:
                times[a][b] = (a - b) % 5
    shift = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    check = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit)
        for _ in range(place % 8):
            value = shift[value]
        check = times[check][value]
    return check


def test_the_published_codes_are_the_ones_that_were_looked_up():
    published = {
        (code.code, code.display)
        for code in vocabulary.CODES.values()
        if code.system in (vocabulary.LOINC, vocabulary.SNOMED)
    }
    assert published == {
        ("5909-7", "Blood smear finding [Identifier] in Blood by Light microscopy"),
        ("91857003", "Acute lymphoid leukemia"),
        ("91861009", "Acute myeloid leukemia"),
        ("92814006", "Chronic lymphoid leukemia"),
        ("92818009", "Chronic myeloid leukemia"),
        ("110004001", "Acute promyelocytic leukemia, FAB M3"),
        ("125154007", "Specimen unsatisfactory for evaluation"),
        ("433466003", "Microscope slide"),
    }
    for code, _display in published:
        number, dash, digit = code.partition("-")
        assert vocabulary.check_digit(number) == digit if dash else _verhoeff(code) == 0
    # Codes for the share of blasts that were to be looked up: the first two are none, the others are, and are not sent.
    assert [vocabulary.check_digit(number) for number in ("709", "26446")] == ["6", "5"]
    for code in vocabulary.CODES.values():
        assert code.display
        assert code.source
        assert code.system.startswith(vocabulary.LOCAL) == (code.source == "ours")


def fields_of(message):
    return [segment.split("|") for segment in message.split("\r") if segment]


def test_every_case_is_an_oru_that_hl7apy_accepts(case):
    message = hl7.oru_message(case)
    hl7.check_message(message)
    segments = fields_of(message)
    assert [segment[0] for segment in segments][:4] == ["MSH", "SFT", "PID", "OBR"]
    assert {segment[0] for segment in segments[4:]} == {"NTE", "OBX"}  # nothing hostile began a segment
    observations = [segment for segment in segments if segment[0] == "OBX"]
    assert {segment[11] for segment in observations} == {"P"}
    assert [int(segment[1]) for segment in observations] == list(range(1, len(observations) + 1))
    assert segments[3][25] == "P"
    assert segments[0][10] == ("T" if case.simulated else "P")
    assert segments[2][5] == f"{case.code}^^^^^^S"


def test_an_oru_carries_probabilities_intervals_and_flags():
    case = CASES["critical"]()
    observations = [segment for segment in fields_of(hl7.oru_message(case)) if segment[0] == "OBX"]
    by_code = {(segment[3].split("^")[0]): segment for segment in observations}
    share = case.result.shares["AML"]
    assert by_code["5909-7"][8] == "AA"
    assert by_code["5909-7"][5].split("^")[3:] == ["91861009", "Acute myeloid leukemia", "SCT"]
    assert by_code["probability-AML"][5] == f"{share.probability * 100:.1f}"
    assert by_code["probability-AML"][8] == "AA"
    assert by_code["probability-ALL"][8] == ""
    assert by_code["interval-AML"][5] == f"^{share.low * 100:.1f}^-^{share.high * 100:.1f}"
    assert [by_code[f"frames-{name}"][5] for name in ("counted", "referred", "unread")] == ["20", "4", "0"]
    assert {CASES[name]().flag for name in ("chronic", "healthy", "referred")} == {"A", "N", ""}


def test_delimiters_in_text_come_back_as_they_were():
    case = report([frame(1)], models=(replace(MODEL, training_data="word " * 60 + "a|b^c&d~e\\f"),))
    parsed = parse_message(hl7.oru_message(case), find_groups=False)
    (told,) = [list(one.obx_5) for one in parsed.obx if one.obx_3.obx_3_1.to_er7() == "model"]
    assert len(told) > 5  # lines
    text = " ".join(line.to_er7() for line in told)
    assert text.endswith("a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f")
    for escaped, plain in (("F", "|"), ("S", "^"), ("T", "&"), ("R", "~"), ("E", "\\")):
        text = text.replace(f"\\{escaped}\\", plain)
    assert text.endswith("a|b^c&d~e\\f")


def words_of(paper):
    reader = pypdf.PdfReader(io.BytesIO(paper))
    return [" ".join(page.extract_text().split()) for page in reader.pages]


def test_every_case_prints_and_says_on_each_page_what_it_is(case):
    paper = pdf.case_pdf(case, {one.frame_id: image(one.number) for one in pdf.pictured_frames(case)})
    pages = words_of(paper)
    assert 1 <= len(pages) <= (2 if case.code == "HL-0001" else 4)
    for number, page in enumerate(pages, 1):
        assert "Decision support, not a medical device." in page
        assert "Not signed" in page
        assert f"Page {number} of {len(pages)}" in page
        assert ("SIMULATED, not for any patient's care" in page) == case.simulated
    assert "Signature" in pages[-1]


def test_the_pdf_holds_result_interval_models_and_the_same_bytes_twice():
    case = CASES["critical"]()
    images = {one.frame_id: image(one.number) for one in pdf.pictured_frames(case)}
    paper = pdf.case_pdf(case, images)
    assert paper == pdf.case_pdf(case, images)
    text = " ".join(words_of(paper))
    share = case.result.shares["AML"]
    assert f"{share.probability * 100:.1f} %" in text
    assert f"{share.low * 100:.1f} to {share.high * 100:.1f} %" in text
    assert "8,000 fields of simulated smears" in text
    assert MODEL.weights_sha256 in text
    assert "APL) is not excluded" in text
    assert "8 of 24" in text
    reader = pypdf.PdfReader(io.BytesIO(paper))
    assert sum(len(page.images) for page in reader.pages) == 16


@pytest.mark.parametrize(
    "words",
    [
        "Zażółć gęślą jaźń",
        "Příliš žluťoučký kůň",
        "Pijamalı hasta yağız şoföre çabucak güvendi, İĞDIR",  # noqa: RUF001 - Turkish has a letter without a dot
        "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία ἀρχῇ",
        "Съешь же ещё этих булок, ґедзь, ћирилица",
        "Bạch cầu cấp dòng tủy, nghi ngờ",
        "Árvíztűrő tükörfúrógép, ģirts, ąžuolas",
    ],
)
def test_names_and_comments_print_in_their_own_letters(words):
    case = report(
        [frame(1)],
        signature=signature(name=words, comment=unicodedata.normalize("NFD", words) + " 甲"),
    )
    paper = pdf.case_pdf(case, {})
    text = " ".join(words_of(paper))
    assert f"{words} ?" in text
    assert f"Signed by {words}" in text
    fonts = pypdf.PdfReader(io.BytesIO(paper)).pages[0]["/Resources"]["/Font"]
    embedded = [one.get_object() for one in fonts.values()]
    assert all("/FontFile2" in one["/FontDescriptor"] for one in embedded if "/FontDescriptor" in one)


@pytest.mark.parametrize("broken", [b"", b"no image", image()[:200], b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_a_damaged_image_leaves_a_page_that_says_so(broken):
    case = report([frame(1)])
    assert "cannot be read" in " ".join(words_of(pdf.case_pdf(case, {case.frames[0].frame_id: broken})))


def test_the_map_lies_where_the_model_looked():
    grid = np.zeros((7, 7))
    grid[1, 5] = 1.0
    drawn = pictures.overlay(np.full((70, 140, 3), 200.0), grid).astype(int)
    changed = np.abs(drawn - 200).sum(axis=2)
    assert np.unravel_index(changed.argmax(), changed.shape) == pytest.approx((15, 110), abs=8)
    assert changed[50:, :60].max() == 0


def test_frames_are_chosen_for_and_against():
    frames = [frame(n, state="refer" if n > 90 else "report", top=0.3 + n / 200) for n in range(1, 101)]
    chosen = choose_frames(frames, 8, leading="AML")
    assert len(chosen) == 8
    assert [one.number for one in chosen] == sorted(one.number for one in chosen)
    assert sum(one.state == "refer" for one in chosen) == 4
    assert {1, 90} <= {one.number for one in chosen}
    assert len(choose_frames(frames[:3], 8, leading=None)) == 3


@pytest.mark.parametrize(
    ("module", "make"),
    [
        ("reportlab", lambda case: pdf.case_pdf(case, {})),
        ("fontpkg_fira_sans", lambda case: pdf.case_pdf(case, {})),
        ("PIL", lambda _case: pictures.thumbnails(image(), (), width=100)),
        ("fhir", lambda case: fhir.check_bundle(fhir.fhir_bundle(case, "r4b"), "r4b")),
        ("hl7apy", lambda case: hl7.check_message(hl7.oru_message(case))),
    ],
)
def test_a_missing_library_is_named_with_the_extra_that_brings_it(module, make, monkeypatch):
    case = CASES["critical"]()
    monkeypatch.setattr("reportlab.pdfbase.pdfmetrics._fonts", {})  # as in a new process
    for name in list(sys.modules):
        if name.partition(".")[0] == module or name == "clinician_dashboard.reports.layout":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPart, match=r"install the extra hemolink\[reports\]"):
        make(case)
