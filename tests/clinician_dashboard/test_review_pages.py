"""The review over HTTP: the same acts as forms and as JSON, refusals, hostile text, other people's sessions, the outbox."""

from datetime import datetime

from markupsafe import escape

from broker_config.desk_messages import Alert, Review
from broker_config.messages import Finer
from broker_config.session import Session, Subscription
from broker_config.settings import BrokerSettings
from broker_config.topics import Topics
from clinician_dashboard.review.settings import ReviewSettings
from clinician_dashboard.web.words import INTENDED_USE, SIGNED_USE
from tests.clinician_dashboard.desk.people import PASSWORD

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}"


def do(client, act, *, code="HL-1", **body):
    return client.post(f"/api/v1/cases/ward/{code}/{act}", json=body)


def review(client, code="HL-1"):
    return client.get(f"/api/v1/cases/ward/{code}/review").raise_for_status().json()


def test_a_case_is_claimed_read_and_signed_through_the_api(place, send, eventually, embedded_broker):
    desk, _far = place
    heard = []
    follower = Session(
        BrokerSettings(port=embedded_broker.port, protocol="3.1.1"),
        client_id="follower",
        subscriptions=[Subscription(Topics().all_of("review"))],
        on_message=heard.append,
    )
    follower.start()
    assert follower.wait_connected(10)
    try:
        frames = send()
        reader = desk.sign_in("haematologist")
        assert do(reader, "claim").json()["done"] == "The case is yours."
        blocked = do(reader, "sign", password="whatever")
        assert blocked.status_code == 409
        assert {gate["code"] for gate in blocked.json()["gates"]} == {"viewed", "conclusion", "agreed"}
        assert do(reader, "view", frames=frames).json()["new"] == 1
        assert do(reader, "conclude", conclusion="CLL", comment=HOSTILE).json()["stage"] == "first"
        wrong = do(reader, "sign", password="not it")
        assert (wrong.status_code, wrong.json()["code"]) == (403, "password")
        assert INTENDED_USE in reader.get("/cases/ward/HL-1").text
        signed = do(reader, "sign", password=PASSWORD).raise_for_status().json()
        shown = reader.get("/cases/ward/HL-1").text
        assert str(escape(SIGNED_USE)) in shown
        assert "AI preliminary result" not in shown
        assert '<h2 id="answer-title">Chronic lymphocytic leukaemia</h2>' in shown
        assert "signed; the model:" in reader.get("/?status=signed").text
        assert (signed["version"], signed["status"]) == (1, "final")
        assert do(reader, "sign", password=PASSWORD).status_code == 409  # pressed twice
        (kept,) = reader.get("/api/v1/cases/ward/HL-1/versions").json()["versions"]
        assert (kept["sha256"], kept["genuine"]) == (signed["sha256"], True)
        eventually(lambda: heard, what="the signature is told over MQTT")
        told = Review.model_validate_json(heard[0].payload)
        assert heard[0].topic == "hemolink/v1/ward/scope-1/review"
        assert (told.case, told.conclusion, told.content_sha256) == ("HL-1", "CLL", signed["sha256"])
        for path in ("/cases/ward/HL-1", "/cases/ward/HL-1/versions/1"):
            page = reader.get(path).raise_for_status().text
            assert "<script>alert" not in page
            assert "&lt;script&gt;alert(1)" in page
    finally:
        follower.stop()


def test_forms_do_the_same_without_a_script(place, send):
    desk, _far = place
    send()
    reader = desk.sign_in("haematologist")
    csrf = reader.headers.pop("x-csrf-token")
    here = "/cases/ward/HL-1"
    form = {"csrf": csrf, "back": here}
    claimed = reader.post(f"{here}/claim", data={**form, "revision": "0"})
    assert (claimed.status_code, claimed.headers["location"]) == (303, f"{here}#review")
    late = reader.post(f"{here}/conclude", data={**form, "revision": "0", "conclusion": "CLL"})
    assert late.status_code == 409
    assert "nothing was saved" in late.text
    assert reader.post(f"{here}/conclude", data={**form, "conclusion": "CLL"}).status_code == 303
    long = reader.post(f"{here}/conclude", data={**form, "conclusion": "CLL", "comment": "x" * 2001})
    assert long.status_code == 422
    assert "Nothing was saved" in long.text
    assert reader.post(f"{here}/release", data={"back": here}).status_code == 403  # no CSRF
    assert reader.post("/reading", data={**form, "blind": "yes"}).headers["location"] == here
    assert reader.post("/reading", data={**form, "back": "//evil.example"}).headers["location"] == "/"


def test_who_may_not_review_is_refused_every_act(place, send):
    desk, _far = place
    frames = send()
    acts = (
        ("claim", {}),
        ("view", {"frames": frames}),
        ("resolve", {"frame": frames[0], "label": "CLL"}),
        ("conclude", {"conclusion": "CLL"}),
        ("acknowledge", {}),
        ("sign", {"password": PASSWORD}),
    )
    for role in ("technician", "auditor", "admin"):
        other = desk.sign_in(role)
        for act, body in acts:
            answer = do(other, act, **body)
            assert answer.status_code == 403, (role, act)
            assert "may not" in answer.json()["error"]
            assert other.post(f"/cases/ward/HL-1/{act}", data=body).status_code == 403
    assert desk.stranger().post("/api/v1/cases/ward/HL-1/claim", json={}).status_code == 401
    assert do(desk.integration("lab_lead"), "sign", password=PASSWORD).status_code == 403
    assert review(desk.http)["claimed_by"] is None


def test_bad_input_is_answered_and_nothing_is_kept(place, send):
    desk, _far = place
    frames = send()
    reader = desk.sign_in("haematologist")
    do(reader, "claim")
    for act, body in (
        ("claim", {"revision": "many"}),
        ("claim", {"surprise": 1}),
        ("conclude", {"conclusion": "x" * 41}),
        ("conclude", {"conclusion": "melanoma"}),
        ("conclude", {"conclusion": "CLL", "comment": "x" * 2001}),
        ("conclude", {"conclusion": "CLL", "comment": "a\x00b"}),
        ("view", {"frames": ["../../etc/passwd"]}),
        ("view", {"frames": frames * 501}),
        ("resolve", {"frame": frames[0], "label": "cat"}),
        ("call", {"called_at": "yesterday"}),
        ("patient", {"patient_code": "Jane Doe, 1970"}),
    ):
        assert do(reader, act, **body).status_code == 422, (act, body)
    assert do(reader, "view", frames=["0" * 32]).status_code == 404
    assert do(reader, "claim", code="HL-2").status_code == 404
    assert do(reader, "claim", code="%00").status_code == 404
    assert reader.get("/api/v1/cases/ward/HL-1/review").json()["opinions"] == []
    assert reader.get("/cases/ward/HL-1/versions/1").status_code == 404
    assert reader.post("/api/v1/cases/ward/HL-1/claim", content=b"{").status_code == 422


def test_a_blind_reader_is_not_shown_the_answer_by_any_door(place, send):
    desk, _far = place
    (frame,) = send("AML")
    reader = desk.sign_in("haematologist")
    reader.post("/reading", data={"blind": "yes", "csrf": reader.headers["x-csrf-token"]})
    doors = ("/cases/ward/HL-1", "/fragments/cases/ward/HL-1", f"/fragments/frames/{frame}")
    tells = (
        "Acute myeloid leukaemia suspected",
        "Calibrated",
        "data-grid",
        "Acute leukaemia suspected",
        "92\u202f%",
    )
    for door in doors:
        text = reader.get(door).raise_for_status().text
        assert [word for word in tells if word in text] == [], door
    assert "Waits to be read at once" in reader.get("/critical").text
    assert "1 case waits to be read at once" in reader.get("/").text  # never silent about that
    assert review(reader)["critical"] is None
    assert do(reader, "conclude", conclusion="AML").status_code == 409
    do(reader, "impression", conclusion="AML").raise_for_status()
    assert "Acute myeloid leukaemia suspected" in reader.get("/cases/ward/HL-1").text
    assert "data-grid" in reader.get("/cases/ward/HL-1").text


def test_a_subtype_that_must_not_be_missed_is_said_above_everything(place, make, eventually):
    desk, far = place
    finer = Finer(
        label="AML",
        level=1,
        system="FAB",
        probabilities={"AML/M2": 0.5, "AML/M3": 0.42},
        alert="APL suspected: coagulation now, haematologist at once.",
    )
    frame = make.frame("HL-1")
    far.send(frame, make.diagnosis(frame, finer=finer, activation_absent="this engine draws none"))
    eventually(lambda: desk.summary()["recorded"] == 1)
    page = desk.http.get("/cases/ward/HL-1").text
    assert "APL suspected: coagulation now, haematologist at once." in page
    assert "data-grid" not in page  # no map is not a map of nothing
    detail = desk.http.get(f"/fragments/frames/{frame.frame_id}").text
    assert "No map of where the model looked: this engine draws none" in detail
    assert "Subtypes of AML (FAB)" in detail


def test_the_second_reader_does_not_see_the_first_ones_word(place, send):
    desk, _far = place
    send("AML")
    first, second = (desk.sign_in("haematologist", name=name) for name in ("anna", "ben"))
    do(first, "claim")
    do(first, "conclude", conclusion="AML", comment="Auer rods seen").raise_for_status()
    assert review(second)["opinions"] == []
    assert "Another reader is needed" in second.get("/critical").text
    assert "Another reader is needed" not in first.get("/critical").text
    assert "Auer rods seen" not in second.get("/cases/ward/HL-1").text
    assert "Auer rods seen" in desk.sign_in("auditor").get("/cases/ward/HL-1").text
    assert do(second, "conclude", conclusion="AML").json()["stage"] == "second"
    assert "Auer rods seen" in second.get("/cases/ward/HL-1").text


def test_a_colleagues_class_for_a_frame_is_kept_from_who_reads_on_their_own(place, send):
    desk, _far = place
    send("AML")
    (frame,) = send("AML", decision="refer", reasons=("ood: unlike the training smears",))
    first, second, blind = (desk.sign_in("haematologist", name=name) for name in ("anna", "ben", "cleo"))
    blind.post("/reading", data={"blind": "yes", "csrf": blind.headers["x-csrf-token"]})
    do(first, "claim")
    do(first, "conclude", conclusion="AML").raise_for_status()
    do(first, "resolve", frame=frame, label="CLL").raise_for_status()

    def told(client):
        fact = next(one for one in review(client)["frames"] if one["frame_id"] == frame)
        return {
            "case": 'class="marked"' in client.get("/cases/ward/HL-1").text,
            "viewer": "CLL, by anna" in client.get(f"/fragments/frames/{frame}").text,
            "api": (fact["label"], fact["labelled_by"]) == ("CLL", "anna"),
        }

    assert set(told(first).values()) == {True}
    assert [set(told(one).values()) for one in (second, blind)] == [{False}, {False}]
    assert "Every referred frame is resolved" in second.get("/cases/ward/HL-1").text
    do(second, "conclude", conclusion="AML").raise_for_status()
    assert set(told(second).values()) == {True}


def test_critical_cases_stand_on_every_page_and_in_the_metrics(place, send):
    desk, _far = place
    send("AML")
    reader = desk.sign_in("haematologist")
    for path in ("/", "/critical", "/fleet", "/health", "/cases/ward/HL-1", "/nothing/here"):
        assert "1 critical case is not acknowledged" in " ".join(reader.get(path).text.split()), path
    assert "not acknowledged</b>" not in desk.sign_in("technician").get("/").text
    assert 'hemolink_dashboard_critical_alerts{state="open"} 1.0' in desk.http.get("/metrics").text
    do(reader, "acknowledge").raise_for_status()
    assert "not acknowledged</b>" not in reader.get("/").text
    assert "the call is not logged yet" in reader.get("/critical").text
    called = do(reader, "call", told_role="ward_physician", told_code="st-17", read_back=True, note=HOSTILE)
    called.raise_for_status()
    page = reader.get("/critical").text
    assert "Ward physician on duty (st-17)" in page
    assert "<script>alert" not in page
    assert 'hemolink_dashboard_critical_alerts{state="open"} 0.0' in desk.http.get("/metrics").text


def test_an_alert_that_nobody_acknowledges_is_escalated_on_every_channel(
    embedded_broker, tmp_path, desk, far_side, make, eventually
):
    heard = []
    follower = Session(
        BrokerSettings(port=embedded_broker.port, protocol="3.1.1"),
        client_id="follower",
        subscriptions=[Subscription(Topics().all_of("alert"))],
        on_message=lambda message: heard.append(Alert.model_validate_json(message.payload).state),
    )
    follower.start()
    assert follower.wait_connected(10)
    settings = ReviewSettings(acknowledge_minutes=0.001)
    try:
        with (
            desk(embedded_broker.port, tmp_path / "desk", protocol="3.1.1", review=settings) as running,
            far_side(embedded_broker.port, protocol="3.1.1") as far,
        ):
            frame = make.frame("HL-1")
            far.send(frame, make.diagnosis(frame, "AML"))
            eventually(lambda: "escalated to you" in running.http.get("/fleet").text, what="the lead is told")
            assert "escalated to the lab lead" in running.sign_in("haematologist").get("/").text
            told = running.http.get("/fragments/alerts").text
            at = datetime.fromisoformat(review(running.http)["critical"]["escalated_at"])
            assert (
                f'datetime="{at.isoformat(timespec="milliseconds")}"' in told
            )  # when it was escalated, not opened
            escalated = "hemolink_dashboard_critical_escalated_total 1.0"
            eventually(lambda: escalated in running.http.get("/metrics").text, what="it is counted")
            eventually(lambda: heard == ["open", "escalated"], what="and told over MQTT")
            do(running.http, "acknowledge").raise_for_status()
            eventually(lambda: heard[-1] == "acknowledged")
            assert "not acknowledged</b>" not in running.http.get("/fleet").text
    finally:
        follower.stop()
