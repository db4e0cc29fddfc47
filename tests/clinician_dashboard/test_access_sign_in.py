"""Sign-in as a browser meets it: pages, account, users, audit."""

import re

import pytest

from clinician_dashboard.access.door import COOKIE
from clinician_dashboard.access.web import CSRF_HEADER
from tests.clinician_dashboard.desk.people import PASSWORD, person
from tests.clinician_dashboard.desk.signing_in import FORM, audit_of, field, sign_in

pytestmark = pytest.mark.usefixtures("forgiven")


def test_one_signs_in_comes_to_the_wanted_page_and_signs_out(running):
    person(running.dashboard.access, "haematologist")
    client = running.stranger()
    turned_away = client.get("/cases/ward/HL-0001?show=refer")
    assert turned_away.headers["location"] == "/sign-in?next=%2Fcases%2Fward%2FHL-0001%3Fshow%3Drefer"
    wrong = sign_in(client, "haematologist", "not this one")
    assert (wrong.status_code, "Name or password is wrong" in wrong.text) == (401, True)
    assert 'value="haematologist"' in wrong.text
    assert "not this one" not in wrong.text
    right = sign_in(client, " Haematologist ", following="/cases/ward/HL-0001?show=refer")
    assert (right.status_code, right.headers["location"]) == (303, "/cases/ward/HL-0001?show=refer")
    cookie = right.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    page = client.get("/")
    assert "Test Haematologist" in page.text
    assert page.headers["cache-control"] == "no-store"
    assert "Cookie" in page.headers["vary"]
    assert client.get(FORM).headers["location"] == "/"
    out = client.post("/sign-out", data={"csrf": field(page)})
    assert (out.status_code, out.headers["location"]) == (303, "/sign-in")
    assert client.get("/").status_code == 303
    assert [who for who, _, _ in audit_of(running, "session.end")][-1] == "haematologist"


def test_each_role_lands_on_a_page_of_its_own_and_is_shown_only_what_it_may_open(running):
    for role, home, shown, hidden in (
        ("technician", "/", ["Worklist", "Fleet"], ["/audit", "/users"]),
        ("admin", "/fleet", ["Fleet", "Users"], ['href="/"', "/audit"]),
        ("auditor", "/", ["Worklist", "Audit"], ["/users"]),
    ):
        person(running.dashboard.access, role)
        client = running.stranger()
        assert sign_in(client, role).headers["location"] == home
        page = client.get(home).text
        navigation = page[page.index("<nav") : page.index("</nav>")]
        assert all(word in navigation for word in shown), role
        assert not any(f'"{word}"' in navigation or word in navigation for word in hidden), role
    refused = client.get("/users")
    assert refused.status_code == 403
    assert (
        "You are signed in as an auditor, who may not manage users and tokens. Who may: admin."
        in refused.text
    )


def test_the_cookie_goes_over_https_only_where_the_browser_speaks_it(running):
    person(running.dashboard.access, "haematologist")
    client = running.stranger()
    client.headers["X-Forwarded-Proto"] = "https"  # from a proxy on this machine
    form = client.get(FORM)
    assert "Secure" in form.headers["set-cookie"]
    client.headers["Cookie"] = f"hemolink-form={field(form)}"  # which this client would not send here
    given = {"name": "haematologist", "password": PASSWORD, "csrf": field(form), "next": "/"}
    session = client.post(FORM, data=given).headers["set-cookie"]
    assert session.startswith("__Host-hemolink=")
    assert "Secure" in session
    token = session.partition("=")[2].partition(";")[0]
    client.headers["Cookie"] = f"__Host-hemolink={token}"
    assert client.get("/session").status_code == 200
    client.headers["Cookie"] = f"hemolink={token}"
    assert client.get("/session").status_code == 401


def test_what_was_sent_after_the_session_had_ended_is_shown_and_not_done(running):
    client = running.sign_in("lab_lead")
    csrf = client.headers.pop(CSRF_HEADER)
    identity = running.dashboard.access.sessions.find(client.cookies[COOKIE])
    running.dashboard.access.sign_out(identity)
    written = {
        "csrf": csrf,
        "back": "/cases/ward/HL-0001",
        "note": "Auer rods <b>seen</b>\nin 3 of 100",
        "password": "must not be shown",
    }
    answer = client.post("/account/sessions", data=written)
    assert answer.status_code == 401
    assert "<b>not saved</b>" in answer.text
    assert "Auer rods &lt;b&gt;seen&lt;/b&gt;\nin 3 of 100" in answer.text
    assert "must not be shown" not in answer.text
    assert csrf not in answer.text
    assert field(answer, "next") == "/cases/ward/HL-0001"
    assert (
        client.post(
            "/account/sessions", content=b"x" * 200_000, headers={"Content-Type": "text/plain"}
        ).status_code
        == 401
    )
    elsewhere = client.post("/sign-out", data={"back": "//evil.example"})
    assert field(elsewhere, "next") == "/"


def test_who_sees_a_case_is_in_the_audit_once_a_session(running, make, far_side, eventually):
    with far_side(running.dashboard._settings.broker.port, protocol="3.1.1") as far:
        frame = make.frame()
        far.send(frame, make.diagnosis(frame))
        eventually(lambda: running.summary()["recorded"] == 1, within_s=40)
    client, again = running.sign_in("technician"), running.integration("auditor")
    for _ in range(3):
        for path in (
            "/cases/ward/HL-0001",
            "/api/v1/cases/HL-0001",
            f"/api/v1/frames/{frame.frame_id}/image",
        ):
            assert client.get(path).status_code == 200
    client.get("/cases/ward/NO-SUCH")
    again.get("/api/v1/cases/HL-0001/report.hl7")
    running.sign_in("admin").get("/cases/ward/HL-0001")
    seen = [(who, subject) for who, subject, _ in audit_of(running, "case.view")]
    assert seen == [("technician", "case:ward/HL-0001")]
    ((who, subject, _),) = audit_of(running, "case.report")
    assert (who.startswith("test-"), subject) == (True, "case:ward/HL-0001")


def test_a_password_of_an_admins_choice_is_changed_before_anything_else(running):
    admin = running.sign_in("admin")
    typed = {"name": "new comer", "full_name": "N. Comer", "role": "auditor"}
    refused = admin.post("/users", data=typed)  # what was typed is given back, to be mended
    assert refused.status_code == 400
    assert [f'value="{typed[name]}" maxlength' in refused.text for name in ("name", "full_name")] == [
        True
    ] * 2
    assert '<option value="auditor" selected>auditor</option></select></label>' in refused.text
    made = admin.post("/users", data={"name": "newcomer", "full_name": "N. Comer", "role": "technician"})
    password = re.search(r'class="secret">([^<]+)<', made.text)[1]
    client = running.stranger()
    assert sign_in(client, "newcomer", password).status_code == 303
    assert client.get("/").headers["location"] == "/account"
    assert client.get("/api/v1/summary").status_code == 403
    page = client.get("/account")
    assert "Choose one of your own" in page.text
    given = {
        "csrf": field(page),
        "old": password,
        "password": "four green moons rise",
        "again": "four green moons rise",
    }
    short = client.post("/account/password", data=given | {"password": "short", "again": "short"})
    assert (short.status_code, "too short" in short.text) == (400, True)
    assert client.post("/account/password", data=given | {"again": "other"}).status_code == 400
    assert client.post("/account/password", data=given | {"old": "wrong"}).status_code == 400
    assert client.post("/account/password", data=given).headers["location"] == "/"
    assert client.get("/").status_code == 200
    # A new password signs every other browser out; an admin's reset signs this one out too.
    other = running.stranger()
    assert sign_in(other, "newcomer", "four green moons rise").status_code == 303
    user = running.dashboard.access.users.named("newcomer")
    page = other.get("/account")
    assert page.text.count("<b>this one</b>") == 1
    ended = other.post("/account/sessions", data={"csrf": field(page)})
    assert "1 signed out" in ended.text
    assert client.get("/").status_code == 303
    reset = admin.post(f"/users/{user.id}/password")
    assert 'class="secret"' in reset.text
    assert other.get("/").status_code == 303
    off = admin.post(f"/users/{user.id}", data={"full_name": "N. Comer", "role": "technician"})
    assert "is changed" in off.text
    fresh = re.search(r'class="secret">([^<]+)<', reset.text)[1]
    assert sign_in(running.stranger(), "newcomer", fresh).status_code == 401


def test_the_audit_page_finds_by_who_what_subject_and_day_and_exports(running):
    http = running.http
    running.sign_in("technician")
    found = http.get(
        "/api/v1/audit", params={"what": "session.begin", "who": "technician", "limit": 2}
    ).json()
    assert {row["action"] for row in found["rows"]} == {"session.begin"}
    assert {row["actor"] for row in found["rows"]} == {"technician"}
    older = http.get(
        "/api/v1/audit", params={"what": "session", "before": found["rows"][-1]["number"]}
    ).json()
    assert all(row["number"] < found["rows"][-1]["number"] for row in older["rows"])
    assert http.get("/api/v1/audit", params={"until": "2001-01-01"}).json()["rows"] == []
    assert http.get("/api/v1/audit", params={"since": "yesterday"}).status_code == 422
    assert http.get("/audit", params={"since": "yesterday"}).status_code == 400
    page = http.get("/audit", params={"subject": "user:tech"}).text
    assert "user:technician" in page
    assert "user:lab-lead" not in page[page.index("<table") :]
    assert audit_of(running, "audit.export")[-1][0] == "lab-lead"
    assert running.sign_in("admin").get("/api/v1/audit").status_code == 403


def test_the_first_start_says_on_every_page_how_the_first_admin_is_made(
    embedded_broker, tmp_path, desk, caplog
):
    with desk(embedded_broker.port, tmp_path / "desk", protocol="3.1.1") as fresh:
        assert "create-admin" in caplog.text
        with fresh.dashboard.access._store.transaction() as session:
            for table in ("sessions", "users"):
                session.connection().exec_driver_sql(f"delete from {table}")  # noqa: S608 - ours
        fresh.dashboard.access._known_users = False
        stranger = fresh.stranger()
        for path in ("/", "/cases/a/b", "/users"):
            page = stranger.get(stranger.get(path).headers["location"])
            assert "hemolink dashboard create-admin" in page.text
            assert 'type="password"' not in page.text
        assert "create-admin" in stranger.get("/api/v1/summary").json()["error"]
