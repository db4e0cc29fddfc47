"""The way out to the health record, against servers that judge, break off, refuse and restart: nothing lost, nothing twice."""

import random
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from clinician_dashboard.access.roles import Actor
from clinician_dashboard.audit.tables import AuditRow
from clinician_dashboard.delivery import courier as courier_module
from clinician_dashboard.delivery.settings import FhirPushSettings, MllpSettings
from clinician_dashboard.review.tables import SignedVersionRow
from tests.clinician_dashboard.delivery_place import Place
from tests.clinician_dashboard.desk.stores import sqlite_store
from tests.clinician_dashboard.fhir_endpoint import (
    FhirEndpoint,
    Receiver,
    drop,
    garbage,
    say,
    take_and_drop,
)

LEAD = Actor("lena", "lab_lead", full_name="Lena Lead", user_id=1)
EVERYTHING = ("preliminary", "final", "amended")


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """The same rules with short pauses: their growth is a table, and is looked at where it stands."""
    monkeypatch.setattr(courier_module, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(courier_module, "LOOK_EVERY_S", 0.2)


@pytest.fixture
def endpoint():
    made = FhirEndpoint().start()
    yield made
    made.stop()
    assert made.complaints == []


@pytest.fixture
def place(tmp_path, request, make):
    """Return a function that opens a way out; on both databases for a test that asks for ``store``, else on SQLite."""
    both = "store" in request.fixturenames
    store = request.getfixturevalue("store") if both else sqlite_store(tmp_path / "desk")
    places = []

    def build(**targets):
        record = store.record()
        record.start()
        made = Place(record, make, **targets)
        places.append(made)
        made.post.start()
        return made

    yield build
    for one in places:
        one.post.stop()
        one.record.stop()


def pushing(endpoint, **changes):
    fields = {"base_url": endpoint.base_url, "send": EVERYTHING, "settle_s": 0, "longest_pause_s": 0.2}
    return FhirPushSettings(**(fields | {"with_pdf": False, "timeout_s": 5} | changes))


@pytest.mark.parametrize("release", ["r4b", "r5"])
def test_a_case_goes_out_preliminary_final_and_amended_as_one_resource(place, eventually, release, make):
    endpoint = FhirEndpoint(release).start()
    try:
        desk = place(fhir=pushing(endpoint, version=release, with_pdf=True))
        desk.see("HL-0001", frames=2)
        eventually(lambda: endpoint.seen.get("ward/HL-0001") == ["preliminary"])
        desk.sign("HL-0001")
        eventually(lambda: endpoint.seen["ward/HL-0001"] == ["preliminary", "final"])
        desk.sign("HL-0001", "CLL")
        eventually(lambda: endpoint.seen["ward/HL-0001"] == ["preliminary", "final", "amended"])
        eventually(desk.settled)
    finally:
        endpoint.stop()
    assert endpoint.complaints == []
    (report,) = endpoint.of("DiagnosticReport")
    assert report["status"] == "amended"
    assert report["conclusionCode"][0]["coding"][1]["code"] == "92814006"
    assert report["presentedForm"][0]["contentType"] == "application/pdf"
    assert len(endpoint.of("Observation")) == 7
    assert len(endpoint.of("Practitioner")) == 1
    assert len(endpoint.of("Provenance")) == 1 + 2 + 2  # the model's at each, the signer's at two
    assert len(endpoint.of("AuditEvent")) == 3
    frames = endpoint.of("Media" if release == "r4b" else "DocumentReference")
    assert len(frames) == 2
    assert "/api/v1" not in str(frames)  # nobody there could follow it
    assert endpoint.twice() == {}
    assert [state for _, _, state in desk.states()] == ["sent"] * 3


def test_whatever_the_server_does_every_version_arrives_once_and_in_order(place, store, endpoint, eventually):
    desk = place(fhir=pushing(endpoint))
    chance = random.Random(5)
    kinds = [
        drop,
        garbage,
        say(500),
        say(503, Retry_After="0"),
        say(429, Retry_After="0"),
        take_and_drop(endpoint),
    ]
    endpoint.faults = [chance.choice(kinds) for _ in range(40)]
    for number in range(6):
        desk.see(f"HL-{number:04d}")
    for number in range(6):
        desk.sign(f"HL-{number:04d}")
        if number % 2:
            desk.sign(f"HL-{number:04d}", "ALL")
    desk.restart()
    endpoint.stop()
    eventually(lambda: desk.post.standings()[0].fault, what="the server is missed")
    endpoint.start()
    eventually(desk.settled, within_s=60)
    assert endpoint.faults == []
    order = {"preliminary": 0, "final": 1, "amended": 2}
    for number in range(6):
        seen = endpoint.seen[f"ward/HL-{number:04d}"]
        assert [order[one] for one in seen] == sorted(order[one] for one in seen)
        assert seen[-1] == ("amended" if number % 2 else "final")
    assert len(endpoint.of("DiagnosticReport")) == 6
    assert endpoint.twice() == {}
    assert {state for _, _, state in desk.states()} <= {"sent", "passed_over"}
    assert [row.state for row in desk.rows() if row.status != "preliminary"] == ["sent"] * 9
    assert desk.post.standings()[0].fault == ""
    eventually(lambda: desk.waiting_gauge("fhir") == 0, what="the gauge follows the record")


def test_what_the_server_refuses_waits_for_a_person_with_the_servers_words(
    place, endpoint, eventually, caplog
):
    desk = place(fhir=pushing(endpoint, send=("final", "amended")))
    endpoint.faults = [say(422, "code not accepted by ward HL-SECRET")]
    for code in ("HL-0001", "HL-0002"):
        desk.see(code)
    desk.sign("HL-0001")
    eventually(desk.settled)
    desk.sign("HL-0002")
    eventually(desk.settled)
    assert endpoint.seen == {"ward/HL-0002": ["final"]}
    assert desk.states() == [("fhir", "final", "parked"), ("fhir", "final", "sent")]
    (parked, _sent), total = desk.post.listed()
    assert total == 2
    assert "code not accepted by ward HL-SECRET at Bundle.entry[0]" in parked.fault
    assert desk.post.standings()[0].parked == 1
    assert "SECRET" not in caplog.text
    assert desk.post.retry(LEAD, parked.id)
    assert not desk.post.retry(LEAD, parked.id)
    eventually(lambda: endpoint.seen.get("ward/HL-0001") == ["final"])
    with desk.record.session() as session:
        audited = session.scalars(sa.select(AuditRow)).one()
    assert (audited.actor, audited.action, audited.subject) == ("lena", "delivery.retry", "case:ward/HL-0001")


def test_a_refused_version_holds_no_later_one_up_and_never_comes_after_it(place, endpoint, eventually):
    desk = place(fhir=pushing(endpoint))
    endpoint.faults = [say(412), say(409)]
    desk.see("HL-0001")
    eventually(lambda: desk.states() == [("fhir", "preliminary", "parked")])
    desk.sign("HL-0001")
    eventually(lambda: [state for _, _, state in desk.states()] == ["passed_over", "parked"])
    first = desk.rows()[1].id
    desk.sign("HL-0001", "ALL")
    eventually(desk.settled)
    assert [state for _, _, state in desk.states()] == ["passed_over", "passed_over", "sent"]
    assert not desk.post.retry(LEAD, first)
    assert endpoint.seen["ward/HL-0001"] == ["amended"]


def test_a_report_that_the_server_stumbles_over_lets_the_others_pass(place, endpoint, eventually):
    desk = place(fhir=pushing(endpoint, send=("final",)))

    def stumble(handler):
        return b"HL-0001" in handler.body and say(500)(handler)

    endpoint.always = stumble
    for number in range(1, 5):
        desk.see(f"HL-{number:04d}")
        desk.sign(f"HL-{number:04d}")
    eventually(lambda: len(endpoint.seen) == 3)
    assert desk.rows()[0].state == "waiting"
    assert desk.rows()[0].attempts >= 1
    endpoint.always = None
    eventually(desk.settled)
    assert len(endpoint.seen) == 4


def test_nothing_is_ordered_that_was_not_committed_and_only_what_was_asked_for(place, endpoint, eventually):
    desk = place(fhir=pushing(endpoint, send=("final",)))
    desk.see("HL-0001")
    with pytest.raises(RuntimeError):
        desk.sign("HL-0001", rollback=True)
    assert desk.rows() == []
    desk.sign("HL-0001")
    desk.sign("HL-0001", "ALL")
    eventually(desk.settled)
    assert endpoint.seen == {"ward/HL-0001": ["final"]}


def test_a_case_that_changes_is_told_of_when_it_is_quiet_and_then_again(place, store, endpoint, eventually):
    desk = place(fhir=pushing(endpoint, settle_s=0.5, send=EVERYTHING))
    for _ in range(5):
        desk.see("HL-0001")
    assert len(desk.rows()) == 1
    eventually(desk.settled)
    taken = endpoint.requests
    assert taken < 5
    desk.see("HL-0001", frames=3)
    eventually(lambda: desk.settled() and endpoint.requests > taken)
    assert len(endpoint.of("Media")) == 8
    assert endpoint.twice() == {}


def test_a_server_that_wants_time_is_given_it(place, endpoint, eventually):
    desk = place(fhir=pushing(endpoint, send=("final",), longest_pause_s=0.01))
    endpoint.faults = [say(429, Retry_After="2")]
    desk.see("HL-0001")
    desk.sign("HL-0001")
    eventually(lambda: endpoint.requests == 1 and desk.rows()[0].attempts == 1)
    row = desk.rows()[0]
    assert 1.0 < (row.due_at - datetime.now(UTC)).total_seconds() <= 2.0
    eventually(desk.settled)
    assert (desk.rows()[0].sent_at - row.created_at).total_seconds() >= 1.9
    assert endpoint.requests == 2


def test_a_token_is_read_anew_and_its_refusal_is_the_targets_affair(place, eventually, tmp_path):
    endpoint = FhirEndpoint(token="right").start()
    token = tmp_path / "token"
    token.write_text("wrong\n")
    try:
        desk = place(fhir=pushing(endpoint, send=("final",), token_file=token))
        desk.see("HL-0001")
        desk.sign("HL-0001")
        eventually(
            lambda: "denies access (401: error login: no valid token" in desk.post.standings()[0].fault
        )
        assert desk.rows()[0].state == "waiting"
        token.write_text("right\n")
        eventually(desk.settled)
        assert desk.rows()[0].state == "sent"
    finally:
        endpoint.stop()


def test_a_token_is_asked_for_with_the_clients_secret_and_kept(place, endpoint, eventually, tmp_path):
    endpoint.token = "granted"
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    asked = []

    def grant(handler):
        if handler.path != "/token":
            return False
        asked.append((handler.headers["Authorization"], handler.body))
        handler.answer(200, {"access_token": "granted", "token_type": "bearer", "expires_in": 3600})
        return True

    endpoint.always = grant
    credentials = {
        "token_url": f"http://127.0.0.1:{endpoint.port}/token",
        "client_id": "hemolink",
        "client_secret_file": secret,
        "scope": "system/*.cruds",
    }
    desk = place(fhir=pushing(endpoint, send=("final",), client_credentials=credentials))
    for number in range(3):
        desk.see(f"HL-{number:04d}")
        desk.sign(f"HL-{number:04d}")
    eventually(desk.settled)
    assert asked == [
        ("Basic aGVtb2xpbms6czNjcmV0", b"grant_type=client_credentials&scope=system%2F%2A.cruds")
    ]


def test_an_altered_signature_is_not_sent(place, endpoint, eventually):
    desk = place(fhir=pushing(endpoint, send=("final",)))
    desk.see("HL-0001")
    desk.post.stop()
    desk.sign("HL-0001")
    with desk.record.transaction() as session:
        row = session.scalars(sa.select(SignedVersionRow)).one()
        row.content = {**row.content, "conclusion": {**row.content["conclusion"], "code": "healthy"}}
    desk.restart()
    eventually(desk.settled)
    assert desk.rows()[0].state == "parked"
    assert "no longer what was signed" in desk.rows()[0].fault
    assert endpoint.requests == 0


def test_messages_go_out_over_mllp_and_acknowledgements_decide(place, eventually):
    receiver = Receiver()
    try:
        settings = MllpSettings(
            host="127.0.0.1",
            port=receiver.port,
            send=EVERYTHING,
            settle_s=0,
            longest_pause_s=0.1,
            application="LIS",
            facility="LAB",
        )
        receiver.codes = ["silent", "AR", "other"]
        desk = place(mllp=settings)
        desk.see("HL-0001")
        eventually(desk.settled)
        assert len(receiver.messages) == 4
        assert len(set(receiver.messages)) == 1  # the same bytes, the same control id
        assert receiver.messages[0].split("|")[4:6] == ["LIS", "LAB"]
        receiver.codes = ["AE"]
        desk.sign("HL-0001")
        eventually(desk.settled)
        parked = desk.rows()[1]
        assert (parked.state, parked.fault) == (
            "parked",
            "the receiver refuses this message (AE: for a test)",
        )
        desk.post.retry(LEAD, parked.id)
        eventually(desk.settled)
        desk.sign("HL-0001", "CLL")
        eventually(lambda: len(receiver.taken) == 3)
        statuses = [
            message.split("\rOBR|")[1].split("\r")[0].split("|")[24] for message in receiver.taken.values()
        ]
        assert statuses == ["P", "F", "C"]
    finally:
        receiver.stop()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base_url": "http://fhir.example.org/r4"}, "not encrypted"),
        ({"base_url": "fhir.example.org"}, "not an address"),
        ({"base_url": "https://user:secret@fhir.example.org"}, "without password"),
        ({"token_file": "t", "client_credentials": None, "typo": 1}, "Extra inputs"),
    ],
)
def test_settings_that_would_leak_or_mislead_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        FhirPushSettings(**({"base_url": "https://fhir.example.org"} | changes))
    assert FhirPushSettings(base_url="https://fhir.example.org").send == ("final", "amended")
    assert (
        FhirPushSettings(base_url="http://10.0.0.1/fhir/", plain_http=True).base_url == "http://10.0.0.1/fhir"
    )
