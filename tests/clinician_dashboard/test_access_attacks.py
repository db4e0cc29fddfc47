"""Sign-in and sessions as an attacker tries them."""

import re
import socket
import threading

import pytest

from clinician_dashboard.access.door import COOKIE
from clinician_dashboard.access.web import CSRF_HEADER
from tests.clinician_dashboard.desk.people import PASSWORD, person
from tests.clinician_dashboard.desk.roles_table import application, rows
from tests.clinician_dashboard.desk.signing_in import FORM, field, sign_in

pytestmark = pytest.mark.usefixtures("forgiven")


def test_a_cookie_from_before_is_not_the_session_and_the_session_before_ends(running):
    person(running.dashboard.access, "haematologist")
    client = running.stranger()
    client.cookies.set(COOKIE, "planted-by-somebody", domain="127.0.0.1")
    sign_in(client, "haematologist")
    first = client.cookies[COOKIE]
    assert first != "planted-by-somebody"
    client.cookies.delete(COOKIE)
    other = running.stranger()
    other.cookies.set(COOKIE, first, domain="127.0.0.1")
    sign_in_again = other.get("/sign-in")
    assert sign_in_again.status_code == 303  # who is signed in needs no form
    form = running.stranger()
    page = form.get(FORM)
    form.cookies.set(COOKIE, first, domain="127.0.0.1")
    form.post(FORM, data={"name": "haematologist", "password": PASSWORD, "csrf": field(page), "next": "/"})
    assert other.get("/session").status_code == 401
    assert form.get("/session").status_code == 200


def test_a_form_of_another_site_does_nothing(running):
    """Each unsafe route, without the secret, with another session's, and with the browser's word that it came from elsewhere."""
    another = running.sign_in("lab_lead").headers[CSRF_HEADER]
    for role in ("lab_lead", "admin"):
        client = running.sign_in(role)
        mine = client.headers.pop(CSRF_HEADER)
        for row in rows(application(running.dashboard)):
            if row.method == "GET" or row.open or not row.allows(role):
                continue
            path = re.sub(r"\{(\w+)[^}]*\}", "1", row.path)
            attacks = [
                {},
                {"data": {"csrf": another}},
                {"data": {"csrf": ""}},
                {"headers": {CSRF_HEADER: another}},
                {"headers": {CSRF_HEADER: "\u00e4".encode("latin-1")}},
                {"headers": {CSRF_HEADER: mine, "Sec-Fetch-Site": "cross-site"}},
                {"json": {"csrf": mine}},
            ]
            for attack in attacks:
                answer = client.request(row.method, path, **attack)
                assert answer.status_code == 403, (row, attack, answer.status_code)
        assert client.get("/session").status_code == 200  # not even signed out


def test_nobody_is_signed_in_as_somebody_else_by_another_site(running):
    person(running.dashboard.access, "haematologist")
    victim, attacker = running.stranger(), running.stranger()
    given = {"name": "haematologist", "password": PASSWORD, "next": "/", "csrf": field(attacker.get(FORM))}
    assert victim.post(FORM, data=given).status_code == 403
    own = given | {"csrf": field(victim.get(FORM))}
    assert victim.post(FORM, data=own, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert COOKIE not in victim.cookies


@pytest.mark.parametrize(
    "wanted", ["//evil.example/", "https://evil.example/", "/\\evil.example", "/%0d%0aX: y\r\nX: y"]
)
def test_sign_in_sends_nobody_elsewhere_and_writes_no_header(running, wanted):
    person(running.dashboard.access, "haematologist")
    client = running.stranger()
    answer = sign_in(client, "haematologist", following=wanted, next=wanted)
    assert answer.headers["location"] == "/"
    assert "x" not in answer.headers
    assert client.get(FORM, params={"next": wanted}).headers["location"] == "/"


def test_the_live_line_of_an_ended_session_ends_and_says_so(running, eventually):
    client = running.sign_in("technician")
    user = person(running.dashboard.access, "technician")
    heard = []

    def listen():
        with client.stream("GET", "/api/v1/events") as answer:
            heard.extend(line for line in answer.iter_lines() if line.startswith("event"))

    listener = threading.Thread(target=listen)
    listener.start()
    eventually(
        lambda: "event: hello" in running.http.get("/metrics").text or running.dashboard._feed.listeners > 0
    )
    running.dashboard.access.sessions.end(
        user.id, by=running.dashboard.access.sessions.find(running.http.cookies[COOKIE]).actor
    )
    running.dashboard._feed.publish("fleet")  # whatever happens next
    listener.join(15)
    assert not listener.is_alive()
    assert heard[-1] == "event: ended"


def test_an_admin_hears_that_microscopes_changed_and_of_no_case(running):
    with running.sign_in("admin").stream("GET", "/api/v1/events") as answer:
        lines = answer.iter_lines()
        while next(lines) != "event: hello":
            pass
        running.dashboard._feed.publish("case", site="ward", code="HL-SECRET")
        running.dashboard._feed.publish("fleet")
        heard = []
        while "event: fleet" not in heard:
            heard.append(next(lines))
    assert not any("HL-SECRET" in line for line in heard)


def test_tokens_work_without_csrf_never_beside_a_cookie_and_not_once_revoked(running):
    access = running.dashboard.access
    client = running.integration("technician")
    assert client.get("/api/v1/summary").status_code == 200
    assert client.get("/").status_code == 200
    mixed = running.sign_in("lab_lead")
    mixed.headers["Authorization"] = client.headers["Authorization"]
    assert mixed.get("/api/v1/summary").status_code == 400
    row = next(
        one
        for one in access.tokens.all()
        if access.tokens.find(client.headers["Authorization"][7:]).key == f"token:{one.id}"
    )
    assert row.used_at is not None
    access.tokens.revoke(row.id, by=access.sessions.find(running.http.cookies[COOKIE]).actor)
    refused = client.get("/api/v1/summary")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Bearer realm="hemolink"')
    for wrong in ("Bearer", "Bearer hml_x", "Basic dTpw", "hml_", "Bearer " + "x" * 5000, "Bearer \u00e4"):
        assert (
            running.stranger()
            .get("/api/v1/summary", headers={"Authorization": wrong.encode("latin-1")})
            .status_code
            == 401
        )


@pytest.mark.parametrize(
    "cookie",
    [
        b"hemolink=" + b"x" * 20_000,
        b"hemolink=%00",
        b"hemolink=" + b"\xff" * 40,
        b"hemolink=a; hemolink=b",
        b"=;=;;",
        b"hemolink",
    ],
)
def test_strange_cookies_are_nobody(running, cookie):
    assert running.stranger().get("/session", headers={"Cookie": cookie}).status_code in (401, 400, 431)


def test_a_long_body_is_refused_with_and_without_a_length(running):
    client = running.sign_in("admin")
    assert client.post("/users", data={"name": "x" * 2_000_000}).status_code == 413
    chunked = client.post(
        "/users",
        content=(b"x" * 100_000 for _ in range(20)),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert chunked.status_code == 413
    with socket.create_connection(("127.0.0.1", running.dashboard.port)) as raw:
        raw.sendall(b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n")
        assert raw.recv(100).split()[1] in (b"400", b"413")


def test_another_persons_session_cannot_be_ended(running):
    mine, others = running.sign_in("technician"), running.sign_in("haematologist")
    key = running.dashboard.access.sessions.find(others.cookies[COOKIE]).key
    assert "There was none" in mine.post("/account/sessions", data={"session": key}).text
    assert "There was none" in mine.post("/account/sessions", data={"session": ""[:8] or "0" * 8}).text
    assert others.get("/session").status_code == 200


def test_hostile_text_in_every_field_is_shown_as_text(running):
    hostile = '"><script>alert(1)</script>'
    admin = running.sign_in("admin")
    admin.post("/users", data={"name": "harmless", "full_name": hostile, "role": "technician"})
    pages = [
        admin.get("/users").text,
        admin.post("/users", data={"name": hostile, "full_name": hostile, "role": hostile}).text,
        admin.post("/tokens", data={"name": hostile, "role": "technician", "days": hostile}).text,
        running.http.get(
            "/audit", params=dict.fromkeys(("who", "what", "subject", "since", "until"), hostile)
        ).text,
        sign_in(running.stranger(), hostile, hostile, following=hostile).text,
        running.http.get("/audit").text,
    ]
    assert not any("<script>alert" in page for page in pages)
