"""From the signature to the health record: a real desk, its API and pages, a FHIR server that judges."""

import io
import re

import pydicom
import pypdf
import pytest

from clinician_dashboard.reports import fhir, hl7
from clinician_dashboard.reports.telling import SUSPICION
from tests.clinician_dashboard.desk.people import PASSWORD
from tests.clinician_dashboard.fhir_endpoint import FhirEndpoint, say

CASE = "/api/v1/cases/HL-0001"


@pytest.fixture
def endpoint():
    made = FhirEndpoint().start()
    yield made
    made.stop()
    assert made.complaints == []


@pytest.fixture
def place(embedded_broker, tmp_path, desk, far_side, make, eventually, endpoint):
    push = {"base_url": endpoint.base_url, "send": ("preliminary", "final", "amended"), "settle_s": 0}
    with (
        desk(embedded_broker.port, tmp_path / "desk", protocol="3.1.1", fhir_push=push) as running,
        far_side(embedded_broker.port, protocol="3.1.1") as far,
    ):
        frames = [make.frame(), make.frame()]
        far.send(*frames, *(make.diagnosis(frame, "CLL") for frame in frames))
        eventually(lambda: running.summary()["recorded"] == 2)
        yield running, far, frames


def do(client, act, **body):
    return client.post(f"/api/v1/cases/ward/HL-0001/{act}", json=body)


def sign(client, frames, conclusion="CLL", **more):
    do(client, "claim").raise_for_status()
    do(client, "view", frames=[frame.frame_id for frame in frames]).raise_for_status()
    said = {"conclusion": conclusion, "comment": "Smudge cells; see 甲."}
    do(
        client, "conclude", **said, **({"reason": "lineage"} if conclusion != "CLL" else {})
    ).raise_for_status()
    return do(client, "sign", password=PASSWORD, warned=True, **more).raise_for_status().json()


def words_of(answer):
    reader = pypdf.PdfReader(io.BytesIO(answer.raise_for_status().content))
    return " ".join(" ".join(page.extract_text() for page in reader.pages).split())


def test_what_is_signed_is_what_every_format_says_and_what_arrives(place, endpoint, eventually, make):
    desk, far, frames = place
    reader = desk.sign_in("haematologist")
    assert "preliminary report" in words_of(reader.get(f"{CASE}/report.pdf"))
    signed = sign(reader, frames)
    eventually(lambda: endpoint.seen.get("ward/HL-0001", [])[-1:] == ["final"], within_s=30)

    late = make.frame()
    far.send(late, make.diagnosis(late, "AML"))
    eventually(lambda: desk.summary()["recorded"] == 3)
    for role in ("technician", "haematologist", "lab_lead", "auditor"):
        text = words_of(desk.sign_in(role).get(f"{CASE}/report.pdf"))
        assert "final report" in text
        assert signed["sha256"] in text
        assert "Smudge cells; see ?." in text  # the typeface has no such letter
        assert late.frame_id not in text
    assert desk.sign_in("admin").get(f"{CASE}/report.pdf").status_code == 403
    assert desk.stranger().get(f"{CASE}/report.pdf").status_code == 401
    page = reader.get("/cases/ward/HL-0001").text
    assert "Final report" in page
    assert f'href="{CASE}/report.pdf?site=ward"' in page
    for release in ("r4b", "r5"):
        bundle = reader.get(f"{CASE}/report.fhir.json", params={"release": release}).raise_for_status().json()
        fhir.check_bundle(bundle, release)
        assert bundle["entry"][0]["resource"]["status"] == "final"
    message = reader.get(f"{CASE}/report.hl7").raise_for_status().text
    hl7.check_message(message)
    assert "Smudge cells; see 甲." in message
    document = pydicom.dcmread(io.BytesIO(reader.get(f"{CASE}/report.sr.dcm").raise_for_status().content))
    assert document.VerificationFlag == "VERIFIED"
    preliminary = words_of(reader.get(f"{CASE}/report.pdf", params={"version": 0}))
    assert "preliminary report" in preliminary
    assert "Not signed" in preliminary
    assert reader.get(f"{CASE}/report.pdf", params={"version": 2}).status_code == 404

    assert desk.http.get("/api/v1/deliveries").json()["targets"][0]["parked"] == 0


def test_an_amendment_takes_the_place_of_what_was_signed(place, endpoint, eventually):
    desk, _far, frames = place
    reader = desk.sign_in("haematologist")
    first = sign(reader, frames)
    second = sign(reader, frames, "CLL", amend_reason="A typing error in the comment.")
    assert (second["version"], second["status"]) == (2, "amended")
    new, old = (words_of(reader.get(f"{CASE}/report.pdf", params=asked)) for asked in ({}, {"version": 1}))
    assert "Amended: A typing error in the comment." in new
    assert first["sha256"][:16] in new
    assert "SUPERSEDED by version 2" in old
    eventually(lambda: endpoint.seen.get("ward/HL-0001", [])[-1:] == ["amended"], within_s=30)
    assert endpoint.seen["ward/HL-0001"][-2:] == ["final", "amended"]
    assert endpoint.twice() == {}
    (report,) = endpoint.of("DiagnosticReport")
    assert report["identifier"][-1]["value"] == second["sha256"]


def test_who_reads_blind_gets_no_report_before_the_first_impression(place):
    desk, _far, frames = place
    reader = desk.sign_in("haematologist")
    csrf = reader.headers["x-csrf-token"]
    reader.post("/reading", data={"csrf": csrf, "back": "/", "blind": "yes"})
    for suffix in ("pdf", "fhir.json", "hl7", "sr.dcm"):
        refused = reader.get(f"{CASE}/report.{suffix}")
        assert refused.status_code == 403, suffix
        assert "You read this case blind" in refused.json()["error"]
    do(reader, "claim").raise_for_status()
    do(reader, "view", frames=[frame.frame_id for frame in frames]).raise_for_status()
    do(reader, "impression", conclusion="CLL").raise_for_status()
    assert reader.get(f"{CASE}/report.pdf").status_code == 200


def test_a_readers_suspicion_is_in_the_preliminary_report_and_arrives(place, endpoint, eventually):
    desk, _far, frames = place
    first, second = desk.sign_in("haematologist"), desk.sign_in("lab_lead")
    second.post("/reading", data={"csrf": second.headers["x-csrf-token"], "back": "/", "blind": "yes"})

    def arrived():
        (report,) = endpoint.of("DiagnosticReport")
        return report["conclusion"]

    eventually(lambda: endpoint.seen.get("ward/HL-0001"))
    assert SUSPICION not in arrived()
    do(first, "claim").raise_for_status()
    do(first, "view", frames=[frame.frame_id for frame in frames]).raise_for_status()
    do(first, "conclude", conclusion="AML", reason="lineage").raise_for_status()
    eventually(lambda: SUSPICION in arrived(), within_s=30)
    smear = next(one for one in endpoint.of("Observation") if one["code"]["coding"][0]["code"] == "5909-7")
    assert smear["interpretation"][0]["coding"][0]["code"] == "AA"
    assert SUSPICION in words_of(first.get(f"{CASE}/report.pdf"))
    message = first.get(f"{CASE}/report.hl7").raise_for_status().text
    hl7.check_message(message)
    assert [line.split("|")[8] for line in message.split("\r") if "|readers-suspicion^" in line] == ["AA"]
    assert SUSPICION.encode() in first.get(f"{CASE}/report.sr.dcm").raise_for_status().content

    # who reads blind is alone with the case until they conclude
    do(second, "view", frames=[frame.frame_id for frame in frames]).raise_for_status()
    do(second, "impression", conclusion="CLL").raise_for_status()
    assert SUSPICION not in words_of(second.get(f"{CASE}/report.pdf"))
    assert "readers-suspicion" not in second.get(f"{CASE}/report.hl7").raise_for_status().text
    do(second, "conclude", conclusion="CLL").raise_for_status()
    assert SUSPICION in words_of(second.get(f"{CASE}/report.pdf"))

    # a word that is taken back is taken back there too
    do(first, "conclude", conclusion="CLL").raise_for_status()
    eventually(lambda: SUSPICION not in arrived(), within_s=30)
    assert SUSPICION not in words_of(first.get(f"{CASE}/report.pdf"))
    assert set(endpoint.seen["ward/HL-0001"]) == {"preliminary"}


def test_what_goes_out_of_a_simulated_case_is_marked_as_such(place, eventually, make):
    desk, far, _frames = place
    assert "SIMULATED" not in desk.http.get("/deliveries").text
    frame = make.frame("HL-0002", simulated=True)
    far.send(frame, make.diagnosis(frame, "CLL"))

    def rows():
        return re.findall(r"<tr data-key.*?</tr>", desk.http.get("/deliveries").text, re.DOTALL)

    eventually(lambda: len(rows()) == 2, within_s=30)
    assert [("HL-0002" in row, "SIMULATED" in row) for row in rows()] == [(True, True), (False, False)]
    assert 'class="tape"' in desk.http.get("/deliveries").text


def test_a_refused_report_is_seen_and_sent_again_by_who_may(place, endpoint, eventually):
    desk, _far, frames = place
    eventually(lambda: endpoint.seen)
    endpoint.always = say(422, "<script>alert(1)</script> not a code of ours")
    sign(desk.sign_in("haematologist"), frames)

    def parked():
        return desk.http.get("/api/v1/deliveries", params={"state": "parked"}).json()["deliveries"]

    eventually(parked, within_s=30)
    (row,) = parked()
    assert (row["status"], row["target"]) == ("final", "fhir")
    page = desk.http.get("/deliveries").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; not a code of ours" in page
    assert "1 refused" in desk.http.get("/health").text
    gauge = 'hemolink_dashboard_deliveries{state="parked",target="fhir"} 1.0'
    eventually(lambda: gauge in desk.stranger().get("/metrics").text)
    assert "not a code" not in desk.stranger().get("/metrics").text
    technician = desk.sign_in("technician")
    assert "Send again" not in technician.get("/deliveries").text
    assert technician.post(f"/api/v1/deliveries/{row['id']}/retry").status_code == 403
    endpoint.always = None
    again = desk.http.post(f"/deliveries/{row['id']}/retry", data={})
    assert (again.status_code, again.headers["location"]) == (303, "/deliveries")
    eventually(lambda: endpoint.seen["ward/HL-0001"][-1] == "final", within_s=30)
    assert desk.http.post(f"/api/v1/deliveries/{row['id']}/retry").status_code == 409
    assert "Arrived" in desk.http.get("/deliveries").text
    assert desk.http.get("/fragments/deliveries?state=sent").status_code == 200
