"""The pages over HTTP: headers, hostile text, images, the live feed, and the JSON API."""

import re
from datetime import UTC, datetime

import pytest

from broker_config.fleet_messages import WorkerState
from broker_config.messages import CLASSES, ModelIdentity, Quality
from clinician_dashboard.record import case_counts, few_cases
from clinician_dashboard.settings import Settings
from clinician_dashboard.web import api
from clinician_dashboard.web.guard import host_name

PAGES = (
    "/",
    "/attention",
    "/fleet",
    "/health",
    "/cases/ward/HL-0001",
    "/nothing/here",
    "/cases/ward/no-such",
)
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg/onload=alert(3)>{{7*7}}"


@pytest.fixture
def place(embedded_broker, tmp_path, desk, far_side):
    with (
        desk(embedded_broker.port, tmp_path / "desk", protocol="3.1.1") as running,
        far_side(embedded_broker.port, protocol="3.1.1") as far,
    ):
        yield running, far


@pytest.fixture
def one_frame(place, make, eventually):
    desk, far = place
    frame = make.frame()
    far.send(frame, make.diagnosis(frame))
    eventually(lambda: desk.summary()["recorded"] == 1)
    return desk, frame


def test_every_answer_carries_the_security_headers_and_no_inline_code(one_frame):
    desk, frame = one_frame
    api = (
        "/api/v1/summary",
        "/api/v1/cases",
        f"/api/v1/frames/{frame.frame_id}/image",
        "/static/main.js",
        "/healthz",
    )
    for path in (*PAGES, *api):
        answer = desk.http.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy, path
        assert "unsafe" not in policy, path
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert answer.headers["referrer-policy"] == "no-referrer", path
        assert answer.headers["x-frame-options"] == "DENY", path
        if answer.headers["content-type"].startswith("text/html"):
            assert not re.search(r"<[^>]+\s(style|on\w+)\s*=", answer.text), path
            assert not re.search(r"<script(?![^>]*src=)", answer.text), path
            assert not re.search(r"(src|href)=\"(https?:)?//", answer.text), path
            assert "AI preliminary, not a diagnosis. Decision support, not a medical device." in answer.text
            assert answer.headers["cache-control"] == "no-store"


def test_hostile_and_huge_text_is_shown_inert_in_every_field(place, make, eventually):
    desk, far = place
    huge = "W" * 2000
    model = ModelIdentity(
        name=HOSTILE,
        version=HOSTILE,
        weights_sha256="a" * 64,
        architecture=HOSTILE,
        engine=HOSTILE,
        training_data=huge,
    )
    frame = make.frame(quality=Quality(flags=(HOSTILE,)))
    far.send(
        frame,
        make.diagnosis(frame, model=model, decision="refer", reasons=(f"code: {HOSTILE}", HOSTILE, huge)),
    )
    far.send(make.rejection(make.frame(), reason=HOSTILE))
    far.send(
        make.state(
            camera=HOSTILE, alarm=HOSTILE, software=huge, quality_reasons={HOSTILE: 3}, case="HL-0001"
        ),
        WorkerState(
            worker="w",
            pool="p",
            presence="online",
            birth=1,
            at=datetime.now(UTC),
            software=HOSTILE,
            model=model,
        ),
    )
    far.raw(far.topics.diagnosis("ward", "scope-1"), b'{"' + HOSTILE.encode() + b'": 1}')
    eventually(lambda: desk.summary()["recorded"] == 1 and "<h3>w</h3>" in desk.http.get("/fleet").text)
    eventually(lambda: desk.summary()["rejected"] == 1)
    searched = desk.http.get("/", params={"q": HOSTILE, "urgency": HOSTILE})
    pages = [desk.http.get(path) for path in (*PAGES, f"/fragments/frames/{frame.frame_id}")]
    seen = 0
    for page in (searched, *pages):
        assert page.status_code in (200, 404)
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        assert "<svg/onload" not in page.text
        seen += page.text.count("&lt;script&gt;alert(1)")
    assert seen >= 8  # it is shown, and only shown


def test_another_host_name_is_refused(one_frame):
    desk, _frame = one_frame
    assert desk.http.get("/", headers={"Host": "evil.example"}).status_code == 421
    assert desk.http.get("/", headers={"Host": "localhost:1234"}).status_code == 200
    assert desk.http.get("/api/v1/summary", headers={"Host": "evil.example:80"}).status_code == 421
    assert host_name("[::1]:8080") == "::1"
    assert "0.0.0.0" not in Settings(directory="x", host="0.0.0.0").host_names
    assert "reader.clinic" in Settings(directory="x", allowed_hosts=("Reader.clinic",)).host_names


def test_an_image_is_what_was_sent_and_is_kept_by_the_browser(one_frame):
    desk, frame = one_frame
    path = f"/api/v1/frames/{frame.frame_id}/image"
    answer = desk.http.get(path)
    assert answer.content == frame.image
    assert answer.headers["content-type"] == "image/jpeg"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["etag"] == f'"{frame.image_sha256}"'
    again = desk.http.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert desk.http.get(f"/api/v1/frames/{'0' * 32}/image").status_code == 404
    for wrong in ("..%2f..%2fetc%2fpasswd", "x", "0" * 33):
        assert desk.http.get(f"/api/v1/frames/{wrong}/image").status_code in (404, 422)


def test_simulated_is_loud_where_the_frame_or_the_model_is(place, make, eventually):
    desk, far = place
    real = make.frame("HL-real")
    far.send(real, make.diagnosis(real))
    eventually(lambda: desk.summary()["recorded"] == 1)
    assert "SIMULATED" not in desk.http.get("/").text
    model = ModelIdentity(name="m", version="1", weights_sha256="a" * 64, simulated=True)
    by_model, by_frame = make.frame("HL-model"), make.frame("HL-frame", simulated=True)
    far.send(by_model, make.diagnosis(by_model, model=model), by_frame, make.diagnosis(by_frame))
    eventually(lambda: desk.summary()["recorded"] == 3)
    for path in ("/", "/cases/ward/HL-model", "/cases/ward/HL-frame", "/health", "/fragments/worklist"):
        assert 'class="tape"' in desk.http.get(path).text, path
    assert (
        'class="tape"' not in desk.http.get("/cases/ward/HL-real").text
    )  # the alerts above name a simulated case


def test_the_case_page_shows_the_evidence(place, make, eventually):
    desk, far = place
    frame, doubted = make.frame(), make.frame()
    far.send(frame, make.diagnosis(frame))
    reasons = ("out_of_distribution: the frame is unlike the training images",)
    far.send(
        doubted, make.diagnosis(doubted, decision="refer", reasons=reasons, prediction_set=("AML", "ALL"))
    )
    eventually(lambda: desk.summary()["recorded"] == 2)
    page = desk.http.get("/cases/ward/HL-0001").text
    for text in (
        "Acute myeloid leukaemia suspected",
        "APL",
        "1</b> was referred and left out",
        "openvino-bf16",
        "µm",
    ):
        assert text in page
    assert "The frame is unlike the training images." in page
    assert page.count('data-grid="') == 2
    detail = desk.http.get(f"/fragments/frames/{doubted.frame_id}").text
    for text in (
        "REFER",
        "out_of_distribution",
        "limit 20",
        "at least 10",
        "Inference",
        "Cannot be excluded",
    ):
        assert text in detail
    fields = desk.http.get(f"/api/v1/frames/{doubted.frame_id}").json()
    assert set(fields["diagnoses"][0]["probabilities"]) == set(CLASSES)
    assert len(fields["diagnoses"][0]["activation"]) == 7


def test_a_case_of_many_frames_is_shown_a_page_at_a_time(place, make, eventually):
    desk, far = place
    frames = [make.frame() for _ in range(60)]
    for number, frame in enumerate(frames, 1):
        far.send(frame)
        if number != 60:
            far.send(make.diagnosis(frame, decision="refer" if number in (3, 55) else "report"))
    eventually(lambda: desk.summary()["recorded"] == 59, within_s=30)

    def shown(query: str = "", where: str = "/cases/ward/HL-0001") -> list[int]:
        found = re.findall(r'data-number="(\d+)"', desk.http.get(where + query).text)
        return [int(number) for number in found]

    assert shown() == list(range(1, 49))
    assert shown("?page=2") == shown("?page=999") == list(range(49, 61))
    assert shown("?page=2", "/fragments/cases/ward/HL-0001") == list(range(49, 61))
    assert shown("?show=refer") == [3, 55]  # by their numbers in the case
    assert shown("?show=waiting") == [60]
    assert shown("?show=refused") == []
    assert len(shown("?show=%3Cscript%3E")) == 48
    assert "No frame is unreadable any more" in desk.http.get("/cases/ward/HL-0001?show=refused").text
    page = desk.http.get("/cases/ward/HL-0001?show=report&page=2").text
    assert "Reported <b>57</b>" in page
    assert 'href="?show=report&amp;page=1"' in page
    case = desk.http.get("/api/v1/cases/HL-0001", params={"limit": 50, "page": 2}).json()
    assert [frame["number"] for frame in case["frames"]] == list(range(51, 61))
    assert case["by_state"] == {"report": 57, "refer": 2, "waiting": 1, "refused": 0}


def test_a_real_frame_read_by_a_simulated_model_is_not_called_a_simulated_frame(place, make, eventually):
    desk, far = place
    model = ModelIdentity(name="m", version="1", weights_sha256="a" * 64, simulated=True)
    frame = make.frame()
    far.send(frame, make.diagnosis(frame, model=model))
    eventually(lambda: desk.summary()["recorded"] == 1)
    assert '<span class="sim on-image">SIMULATED MODEL</span>' in desk.http.get("/cases/ward/HL-0001").text


def test_the_viewer_says_why_a_frame_is_unreadable(place, make, eventually):
    desk, far = place
    frame = make.frame()
    far.send(frame, make.rejection(frame))
    eventually(lambda: desk.summary()["rejected"] == 1)
    detail = desk.http.get(f"/fragments/frames/{frame.frame_id}").text
    assert "UNREADABLE" in detail
    assert "the image cannot be decoded" in detail


def test_the_live_feed_tells_what_changed_and_catches_up(one_frame, place, make):
    desk, _frame = one_frame
    _desk, far = place

    def events(until, **headers):
        heard = []
        with (
            desk.http.stream("GET", "/api/v1/events", headers=headers) as answer,
        ):
            assert answer.headers["content-type"].startswith("text/event-stream")
            event = {}
            for line in answer.iter_lines():
                if not line and event:
                    heard.append(event)
                    if event.get("event") == until:
                        return heard
                    if event.get("event") == "hello":
                        another = make.frame("HL-0002")
                        far.send(another, make.diagnosis(another))
                    event = {}
                elif line:
                    name, _, value = line.partition(": ")
                    event[name] = value
        raise AssertionError(heard)

    first = events("case")
    assert first[-1]["data"] == '{"site": "ward", "code": "HL-0002"}'
    hello = next(event for event in first if event.get("event") == "hello")
    missed = events("hello", **{"Last-Event-ID": hello["id"]})
    assert missed[-1]["event"] == "hello"
    caught_up = events("case", **{"Last-Event-ID": hello["id"]})
    assert caught_up[-1]["data"] == '{"site": "ward", "code": "HL-0002"}'
    stale = events("refresh", **{"Last-Event-ID": "00000000-5"})  # another process' id
    assert stale[-1]["event"] == "refresh"


def test_the_live_feed_has_room_for_so_many_pages_and_says_so(one_frame, monkeypatch):
    desk, _frame = one_frame
    monkeypatch.setattr(api, "MAX_LISTENERS", 1)
    with desk.http.stream("GET", "/api/v1/events") as first:
        lines = first.iter_lines()  # kept, since the stream ends with it
        assert next(lines).startswith("retry")
        refused = desk.integration("auditor").get("/api/v1/events")
    assert refused.status_code == 503
    assert "close some" in refused.json()["error"]


def test_pages_beyond_the_loopback_say_that_there_is_no_tls(
    embedded_broker, tmp_path, desk, one_frame, caplog
):
    alone, _frame = one_frame
    assert alone.http.get("/readyz").text == "ready\n"
    assert "No TLS" not in alone.http.get("/health").text
    with desk(
        embedded_broker.port, tmp_path / "open", protocol="3.1.1", host="0.0.0.0", name="open"
    ) as exposed:
        for text in (exposed.http.get("/readyz").text, caplog.text):
            assert "beyond this machine, without TLS" in text
            assert "let only a proxy with TLS reach that port" in text
        assert exposed.http.get("/readyz").text.startswith("ready\nwarning: ")
        assert "<b>No TLS.</b>" in exposed.http.get("/health").text


def test_health_metrics_and_errors(one_frame, eventually):
    desk, _frame = one_frame
    assert desk.http.get("/healthz").status_code == 200
    assert desk.http.get("/readyz").text == "ready\n"
    eventually(lambda: "hemolink_dashboard_recorded_total 1.0" in desk.http.get("/metrics").text)
    assert desk.http.get("/api/v1/cases/none").json() == {"error": "no such case"}
    assert "There is nothing at this address" in desk.http.get("/nothing/here").text
    assert desk.http.get("/fleet", params={"page": "x"}).status_code == 422
    assert desk.http.get("/api/v1/openapi.json").json()["info"]["title"] == "Hemolink clinician dashboard"


def test_what_needs_a_person_is_shown_a_page_at_a_time(place, make, eventually):
    desk, far = place
    far.send(*(make.rejection(make.frame(), code=f"code_{number}") for number in range(60)))
    eventually(lambda: desk.summary()["rejected"] == 60)
    first, second = (desk.http.get("/attention", params={"page": page}).text for page in (1, 2))
    assert (first.count('class="letter"'), second.count('class="letter"')) == (50, 10)
    assert "Page 1 of 2, 60 dead letters" in first
    assert "code_59<" in first  # the latest first
    assert "code_0<" in second
    assert desk.http.get("/attention", params={"page": 9}).text.count('class="letter"') == 10
    answer = desk.http.get("/api/v1/rejections", params={"limit": 5, "offset": 58}).json()
    assert (answer["matching"], [one["code"] for one in answer["rejections"]]) == (60, ["code_1", "code_0"])


def test_a_number_that_was_not_counted_to_its_end_has_a_plus(place, make, eventually, monkeypatch):
    desk, far = place
    frames = [make.frame(f"HL-{number}") for number in range(3)]
    far.send(*frames, *(make.diagnosis(frame, "CLL") for frame in frames))
    eventually(lambda: desk.summary()["recorded"] == 3)
    asked = {"q": "HL-", "status": "all"}

    def chips():
        shown = re.sub(r"<[^>]+>", " ", desk.http.get("/", params=asked).raise_for_status().text)
        return re.findall(r"(?:All|High|Critical)\s+(\d+\+?)", shown)

    assert chips() == ["3", "0", "3"]
    monkeypatch.setattr(case_counts, "COUNTED_TO", 2)
    monkeypatch.setattr(few_cases, "FEW", 0)
    assert chips() == ["2+", "0", "2+"]


def test_a_large_fleet_is_shown_a_page_at_a_time(place, another, eventually):
    desk, far = place
    far.send(*(another("ward", f"scope-{number:03}").state(spooled=2) for number in range(130)))
    eventually(lambda: desk.http.get("/api/v1/fleet").json()["device_count"] == 130)
    first, second = (desk.http.get("/fleet", params={"page": page}).text for page in (1, 2))
    assert (first.count("<h3>"), second.count("<h3>")) == (120, 10)
    assert "scope-129" in second
    assert "260 frames" in desk.http.get("/health").text
