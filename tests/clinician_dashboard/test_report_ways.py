"""The ways out: the API, the case's page and ``hemolink dashboard export``, over a real record."""

import io
import json
import re
import time
from datetime import UTC, datetime

import pydicom
import pypdf
import pytest
from click.testing import CliRunner

from clinician_dashboard.commands import dashboard as commands
from clinician_dashboard.record import Record, RecordReader, RecordWriter
from clinician_dashboard.reports import fhir, formats, hl7, pdf
from clinician_dashboard.reports.errors import InvalidReport, NoSuchCase
from clinician_dashboard.reports.gather import LISTED, LOOKED_AT, gather
from clinician_dashboard.reports.looking import look
from clinician_dashboard.settings import Settings

CASE = "/api/v1/cases/HL-0001/report"


@pytest.fixture
def place(embedded_broker, tmp_path, desk, far_side, make, eventually):
    with (
        desk(embedded_broker.port, tmp_path / "desk", protocol="3.1.1") as running,
        far_side(embedded_broker.port, protocol="3.1.1") as far,
    ):
        frames = [make.frame(), make.frame(), make.frame(simulated=True)]
        far.send(*frames, *(make.diagnosis(frame) for frame in frames[:2]))
        reasons = (
            "ambiguous: The prediction set holds ALL and AML.",
            "ood: The frame is unlike the training data.",
        )
        far.send(make.diagnosis(frames[2], "ALL", top=0.5, decision="refer", reasons=reasons))
        eventually(lambda: running.summary()["recorded"] == 3)
        yield running, far


@pytest.fixture
def export(embedded_broker, tmp_path):
    settings = tmp_path / "dashboard.yaml"
    settings.write_text(f"broker: {{port: {embedded_broker.port}}}\ndirectory: {tmp_path / 'desk'}\n")

    def run(*arguments):
        return CliRunner().invoke(commands, ["export", "--settings", str(settings), *map(str, arguments)])

    return run


def test_the_api_hands_out_each_format_of_what_the_record_holds(place):
    desk, _far = place
    paper = desk.http.get(f"{CASE}.pdf").raise_for_status()
    assert paper.headers["content-type"] == "application/pdf"
    assert re.fullmatch(
        r'attachment; filename="HL-0001-preliminary-v\d+\.pdf"', paper.headers["content-disposition"]
    )
    assert paper.headers["cache-control"] == "no-store"
    text = " ".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(paper.content)).pages)
    assert "The prediction set holds ALL and AML." in " ".join(text.split())
    assert "SIMULATED" in text
    for release, version in (("r4b", "4.3"), ("r5", "5.0")):
        answer = desk.http.get(
            f"{CASE}.fhir.json", params={"release": release, "site": "ward"}
        ).raise_for_status()
        assert answer.headers["content-type"] == f"application/fhir+json; fhirVersion={version}"
        fhir.check_bundle(answer.json(), release)
        kinds = [entry["resource"]["resourceType"] for entry in answer.json()["entry"]]
        assert kinds.count("Media" if release == "r4b" else "DocumentReference") == 3
        assert kinds.count("Observation") == 6
    message = desk.http.get(f"{CASE}.hl7").raise_for_status()
    assert message.headers["content-type"] == hl7.MEDIA_TYPE
    hl7.check_message(message.text)
    page = desk.http.get("/cases/ward/HL-0001").text
    for suffix in ("pdf", "fhir.json", "hl7"):
        assert f'href="{CASE}.{suffix}?site=ward"' in page


def test_the_page_offers_only_what_can_be_made(place, monkeypatch):
    desk, _far = place
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "reportlab" else name)
    formats.available.cache_clear()
    try:
        page = desk.http.get("/cases/ward/HL-0001").text
    finally:
        formats.available.cache_clear()
    assert f"{CASE}.hl7" in page
    assert f"{CASE}.pdf" not in page
    assert f"{CASE}.fhir.json" not in page


def test_every_link_of_a_bundle_to_a_picture_answers(place):
    desk, _far = place
    bundle = desk.http.get(f"{CASE}.fhir.json").json()
    pictures = [
        entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Media"
    ]
    for picture in pictures:
        assert desk.http.get(picture["content"]["url"]).status_code == 200


def test_a_frame_is_had_as_dicom(place):
    desk, _far = place
    frames = desk.http.get("/api/v1/cases/HL-0001").json()["frames"]
    answer = desk.http.get(f"{frames[0]['image']}.dcm").raise_for_status()
    assert answer.headers["content-type"] == "application/dicom"
    file = pydicom.dcmread(io.BytesIO(answer.content))
    assert (file.PatientID, file.Columns, file.Rows) == ("HL-0001", 160, 120)
    assert desk.http.get(f"/api/v1/frames/{'0' * 32}/image.dcm").status_code == 404
    assert desk.http.get("/api/v1/frames/x/image.dcm").status_code == 422


def test_the_api_says_what_is_wrong(place, another, eventually, monkeypatch):
    desk, far = place
    assert desk.http.get("/api/v1/cases/no-such/report.pdf").status_code == 404
    assert desk.http.get(f"{CASE}.fhir.json", params={"release": "r3"}).status_code == 422
    assert desk.http.get(f"{CASE}.docx").status_code == 404
    elsewhere = another(site="east")
    frame = elsewhere.frame()
    far.send(frame, elsewhere.diagnosis(frame))
    eventually(lambda: desk.summary()["recorded"] == 4)
    twice = desk.http.get(f"{CASE}.pdf")
    assert twice.status_code == 409
    assert "east, ward: add ?site=" in twice.json()["error"]
    assert desk.http.get(f"{CASE}.pdf", params={"site": "east"}).status_code == 200

    def broken(*_ignored):
        raise InvalidReport("the HL7 message breaks its own structure: for a test")

    monkeypatch.setattr(formats.hl7, "check_message", broken)
    refused = desk.http.get(f"{CASE}.hl7", params={"site": "ward"})
    assert refused.status_code == 503
    assert "breaks its own structure" in refused.json()["error"]


def test_a_picture_that_is_gone_does_not_keep_the_report_back(place, tmp_path):
    desk, _far = place
    for picture in (tmp_path / "desk" / "images" / "sha256").glob("*/*/*"):
        picture.unlink()
    paper = desk.http.get(f"{CASE}.pdf").raise_for_status()
    text = " ".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(paper.content)).pages)
    assert "cannot be read" in " ".join(text.split())


def test_the_command_writes_the_same_while_the_dashboard_runs_and_after(place, export, tmp_path):
    desk, _far = place
    out = tmp_path / "report"
    for name, begins in (("pdf", b"%PDF"), ("fhir-r4b", b"{"), ("fhir-r5", b"{"), ("hl7", b"MSH|")):
        done = export("HL-0001", "--format", name, "--out", out)
        assert done.exit_code == 0, done.output
        assert "preliminary report of HL-0001" in done.output
        assert "Not signed. SIMULATED." in done.output
        assert out.read_bytes().startswith(begins)
    assert out.read_bytes().count(b"\rOBX|") >= 15
    desk.stop()
    assert export("HL-0001", "--format", "fhir-r5", "--out", out).exit_code == 0
    fhir.check_bundle(json.loads(out.read_bytes()), "r5")


def test_the_command_says_what_is_wrong(place, export, tmp_path):
    unknown = export("HL-9999", "--out", tmp_path / "x.pdf")
    assert unknown.exit_code == 1
    assert "no such case" in unknown.output
    assert "Traceback" not in unknown.output
    nowhere = export("HL-0001", "--out", tmp_path / "no" / "folder" / "x.pdf")
    assert nowhere.exit_code == 1
    assert "cannot be written" in nowhere.output


def test_without_a_record_the_command_names_the_folder(export, tmp_path):
    done = export("HL-0001", "--out", tmp_path / "x.pdf")
    assert done.exit_code == 1
    assert "holds no record" in done.output
    assert not (tmp_path / "desk").exists()


def test_a_case_of_many_frames_is_listed_in_part_and_counted_whole(tmp_path, make):
    record = Record(f"sqlite:///{tmp_path / 'record.sqlite'}", tmp_path)
    record.start()
    frames = [make.frame(image=number.to_bytes(4)) for number in range(1300)]
    answers = [
        make.diagnosis(frame, decision="refer", reasons=("ood: The frame is unlike the training data.",))
        if number % 2
        else make.diagnosis(frame, top=0.6 + number / 5000)
        for number, frame in enumerate(frames)
    ]
    RecordWriter(record).apply([*frames, *answers])
    began = time.perf_counter()
    report = gather(RecordReader(record), "HL-0001", made_at=datetime.now(UTC))
    took = time.perf_counter() - began
    assert (report.frame_count, report.result.counted, report.result.referred) == (1300, 650, 650)
    assert len(report.frames) == LISTED
    assert [(one.code, one.frames) for one in report.referrals] == [("ood", LOOKED_AT)]
    assert report.referrals_seen == LOOKED_AT
    text = " ".join(pypdf.PdfReader(io.BytesIO(pdf.case_pdf(report, {}))).pages[0].extract_text().split())
    assert "Counted over the first 200 referred frames." in text
    assert took < 10
    fhir.check_bundle(fhir.fhir_bundle(report, "r4b"), "r4b")
    hl7.check_message(hl7.oru_message(report))
    record.stop()


def test_a_record_in_use_is_read_on_either_database(store, make):
    record = store.record()
    record.start()
    frame = make.frame()
    RecordWriter(record).apply([frame, make.diagnosis(frame)])
    settings = Settings(directory=store.directory, **store.settings())
    with look(settings) as reader:
        made = formats.make_report(reader, "HL-0001", "fhir-r5")
        with pytest.raises(NoSuchCase):
            formats.make_report(reader, "HL-\x00", "hl7")
    fhir.check_bundle(json.loads(made.content), "r5")
    assert made.report.frame_count == 1
    record.stop()
