"""Sign-in in a real Chromium: keyboard only, wrong password, a page that a role may not open, a session that ends."""

import time

import pytest

from tests.clinician_dashboard.desk.people import PASSWORD, person

pytestmark = pytest.mark.browser
EXPECTED = (
    "status of 401",
    "status of 403",
)  # what Chromium says of an answer that refuses, which is what is tested


@pytest.fixture
def place(embedded_broker, tmp_path, desk):
    with desk(embedded_broker.port, tmp_path / "desk", protocol="3.1.1") as running:
        yield running


@pytest.fixture
def clean_page(page, place):
    """A page that fails the test on a console error, an exception, or an answer of 500 and above."""
    complaints = []

    def note(message):
        if message.type == "error" and not any(words in message.text for words in EXPECTED):
            complaints.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("response", lambda answer: answer.status >= 500 and complaints.append(answer.url))
    page.set_default_timeout(30_000)
    yield page
    page.goto("about:blank")
    assert complaints == []


def until(page, true):
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, page.url
        page.wait_for_timeout(50)


def test_one_signs_in_and_out_by_keyboard_and_a_wrong_password_is_said(place, clean_page, tmp_path):
    page = clean_page
    person(place.dashboard.access, "haematologist")
    page.goto(f"{place.url}/fleet?page=1")
    assert "/sign-in?next=" in page.url
    page.keyboard.type("haematologist")  # the first field has the focus
    page.keyboard.press("Tab")
    page.keyboard.type("not this one")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("Name or password is wrong.").wait_for()
    assert page.get_by_label("Name").input_value() == "haematologist"
    page.screenshot(path=tmp_path / "wrong.png")
    page.keyboard.type(PASSWORD)  # the name is kept, and the password has the focus
    page.keyboard.press("Enter")
    page.wait_for_url(f"{place.url}/fleet?page=1")
    page.get_by_text("Test Haematologist").wait_for()
    page.wait_for_selector('[data-line="live"]')
    page.get_by_role("button", name="Sign out").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"{place.url}/sign-in")
    page.go_back()
    page.wait_for_url("**/sign-in?next=**")  # nothing of it is shown again


def test_a_page_that_a_role_may_not_open_says_why_and_who_may(place, clean_page, tmp_path):
    page = clean_page
    place.admit(page, "technician")
    page.goto(f"{place.url}/audit")
    page.get_by_text(
        "You are signed in as a technician, who may not read the audit. Who may: lab lead and auditor."
    ).wait_for()
    page.screenshot(path=tmp_path / "refused.png")
    page.get_by_role("link", name="To your first page").click()
    page.wait_for_url(f"{place.url}/")
    assert page.get_by_role("link", name="Users").count() == 0


def test_an_admin_adds_a_person_and_a_token_and_what_is_secret_is_shown_once(place, clean_page, tmp_path):
    page = clean_page
    place.admit(page, "admin")
    page.goto(f"{place.url}/users")
    form = page.locator("form[action='/users']")
    form.get_by_label("Login").fill("eve")
    form.get_by_label("Full name").fill("Eve Example")
    form.get_by_label("Role").select_option("auditor")
    form.get_by_role("button", name="Add").click()
    page.locator(".secret").wait_for()
    form = page.locator("form[action='/tokens']")
    form.get_by_label("Name").fill("lis")
    form.get_by_label("Role").select_option("technician")
    form.get_by_role("button", name="Make").click()
    page.get_by_text("not shown again").wait_for()
    assert page.locator(".secret").inner_text().startswith("hml_")
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.screenshot(path=tmp_path / f"users-{theme}.png", full_page=True)
    page.get_by_role("button", name="Revoke lis").click()
    page.get_by_text("good for nothing any more").wait_for()
    page.set_viewport_size({"width": 820, "height": 1100})
    page.screenshot(path=tmp_path / "users-820.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_session_that_ends_covers_the_page_and_a_sign_in_elsewhere_lifts_it_with_what_was_typed(
    place, clean_page, tmp_path
):
    page = clean_page
    user = person(place.dashboard.access, "lab_lead", name="boss")
    place.admit(page, "lab_lead", name="boss")
    page.goto(f"{place.url}/account")
    page.wait_for_selector('[data-line="live"]')
    page.get_by_label("Present password").fill("half typed")
    before = page.locator("meta[name=csrf]").get_attribute("content")
    place.dashboard.access.sessions.end(
        user.id, by=place.dashboard.access.sessions.find(place.http.cookies["hemolink"]).actor
    )
    place.dashboard._feed.publish("fleet")
    cover = page.get_by_role("dialog", name="Your session has ended")
    cover.wait_for()
    page.keyboard.press("Escape")
    assert cover.is_visible()
    page.screenshot(path=tmp_path / "ended.png")
    place.admit(page, "lab_lead", name="boss")  # as if in another tab
    page.get_by_role("button", name="I have signed in").click()
    cover.wait_for(state="hidden")
    assert page.get_by_label("Present password").input_value() == "half typed"
    after = page.locator("form[action='/account/password'] input[name=csrf]").get_attribute("value")
    assert after != before
    assert page.locator("meta[name=csrf]").get_attribute("content") == after
    until(page, lambda: page.locator('[data-line="live"]').count() == 1)


def test_the_audit_is_found_through_by_keyboard(place, clean_page, tmp_path):
    page = clean_page
    for _ in range(3):
        place.sign_in("technician")
    place.admit(page, "auditor")
    page.goto(f"{place.url}/audit")
    page.get_by_label("Who").focus()
    page.keyboard.type("technician")
    page.keyboard.press("Enter")
    page.wait_for_url("**who=technician**")
    assert page.locator("table.audit tbody tr, table.audit tr:has(td)").count() == 3
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.screenshot(path=tmp_path / f"audit-{theme}.png", full_page=True)
