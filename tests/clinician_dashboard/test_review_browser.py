"""The review in a real Chromium: a case appears, is read and signed by keyboard; blocked signatures; the critical loop."""

import time

import pytest
from pypdf import PdfReader

from tests.clinician_dashboard.desk.people import PASSWORD
from tests.clinician_dashboard.test_dashboard_browser import LOW_CONTRAST

pytestmark = pytest.mark.browser


@pytest.fixture
def open_page(context, place):
    """Return a function that gives a signed-in page; a console error, an exception or an answer of 500 fails the test.

    An answer below 500 that a test asks for (a refusal) is no fault, though Chromium writes it to the console.
    """
    desk, _far = place
    complaints = []

    def open_as(role="haematologist", *, name="", path="/"):
        page = context.browser.new_context().new_page()
        page.on(
            "console",
            lambda message: (
                message.type in ("error", "warning")
                and "willReadFrequently" not in message.text
                and "status of 4" not in message.text
                and complaints.append(message.text)
            ),
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("response", lambda answer: answer.status >= 500 and complaints.append(answer.url))
        page.set_default_timeout(20_000)
        desk.admit(page, role, name=name)
        page.goto(desk.url + path)
        page.wait_for_selector('[data-line="live"]')
        pages.append(page)
        return page

    pages = []
    yield open_as
    for page in pages:
        page.context.close()
    assert complaints == []


def until(page, expression):
    deadline = time.monotonic() + 20
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def gate(page, code):
    return page.locator(f'[data-gate="{code}"]')


def see_every_frame(page):
    page.locator(".picture").first.click()
    page.wait_for_selector(".detail form[data-resolve]")


def test_a_case_is_read_and_signed_with_the_keyboard_alone(place, send, open_page, make):
    desk, far = place
    page = open_page()
    assert page.locator("text=No case yet").is_visible()
    page.evaluate("window.notReloaded = true")
    frame = make.frame("HL-1")
    far.send(frame, make.diagnosis(frame, "CLL", decision="report"))
    page.wait_for_selector('[data-key="ward/HL-1"] >> text=suggested')
    assert page.evaluate("window.notReloaded") is True
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/cases/ward/HL-1")
    page.wait_for_selector('[data-line="live"]')
    page.evaluate("window.notReloaded = true")

    page.keyboard.press("c")
    page.wait_for_selector("text=The case is yours")
    gate(page, "claim").and_(page.locator(".met")).wait_for()
    page.keyboard.press("j")  # the frame, and into the viewer
    page.keyboard.press("Enter")
    page.wait_for_selector(".detail form[data-resolve]")
    page.keyboard.press("4")
    page.locator("[data-kept]:has-text('CLL')").wait_for()
    page.keyboard.press("Escape")
    gate(page, "viewed").and_(page.locator(".met")).wait_for()
    page.keyboard.press("y")  # the model's conclusion
    assert page.locator("input[name=conclusion]:checked").get_attribute("value") == "CLL"
    page.keyboard.press("Enter")
    page.wait_for_selector(".opinion >> text=confirms the model")
    gate(page, "agreed").and_(page.locator(".met")).wait_for()
    page.keyboard.press("s")
    until(page, "document.activeElement.type === 'password'")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector(".signed-line >> text=Chronic lymphocytic leukaemia")
    assert page.locator(".report-status.final").is_visible()
    assert page.evaluate("window.notReloaded") is True
    # The report of what was signed, from the page's own link.
    pytest.importorskip("reportlab")
    link = page.locator("a[download]:has-text('PDF')")
    link.and_(page.locator("dt:has-text('Final report') + dd a")).wait_for()
    with page.expect_download() as loading:
        link.click()
    text = " ".join(reader.extract_text() for reader in PdfReader(loading.value.path()).pages)
    assert "Test Haematologist" in text
    assert desk.dashboard.review.versions(1)[0].sha256[:16] in text.replace("\n", "")
    page.locator(".versions a").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('Version 1 of HL-1')")


def test_an_override_asks_for_the_reason_and_a_second_reader_and_blocks_the_signature_until_then(
    send, open_page
):
    send("CLL")
    page = open_page(name="anna", path="/cases/ward/HL-1")
    page.locator("button:has-text('Claim')").click()
    see_every_frame(page)
    page.keyboard.press("Escape")
    form = page.locator("form[action$='/conclude']")
    assert not form.locator("[data-reason-field]").is_visible()
    form.locator("input[value=CML]").check()
    form.locator("select[name=reason]").select_option("maturation")
    form.locator("select[name=finer]").select_option("chronic")
    form.locator("textarea").fill("<script>alert(1)</script> left shift")
    form.locator("button.primary").click()
    page.wait_for_selector(".opinion >> text=differs from the model")
    assert page.locator(".opinion .comment").inner_text() == "<script>alert(1)</script> left shift"
    assert "A second reader must read it" in gate(page, "second").inner_text()
    signature = page.locator("form[action$='/sign']")
    signature.locator("input[type=password]").fill(PASSWORD)
    signature.locator("button.primary").click()
    refusal = signature.locator("[data-refusal]")
    refusal.wait_for()
    assert (
        "A second reader must read it, since the first reader differs from the model" in refusal.inner_text()
    )
    gate(page, "second").locator("a").click()  # leads to what resolves it
    assert page.locator("#second-reader >> text=It waits for them").is_visible()

    other = open_page(name="ben", path="/cases/ward/HL-1")
    assert other.locator("text=you see the first after giving yours").is_visible()
    assert other.locator(".opinion").count() == 0
    other.locator("form[action$='/conclude'] input[value=CML]").check()
    other.locator("form[action$='/conclude'] select[name=reason]").select_option("maturation")
    other.locator("form[action$='/conclude'] button.primary").click()
    other.wait_for_selector(".opinion.second")

    gate(page, "second").and_(page.locator(".met")).wait_for()  # live, in the first reader's page
    refusal.wait_for(state="hidden")  # what it said is not so any more
    signature.locator("input[type=password]").fill(PASSWORD)
    signature.locator("button.primary").click()
    refusal.filter(has_text="Somebody acted on this case").wait_for()
    signature.locator("input[type=password]").fill(PASSWORD)
    signature.locator("button.primary").click()  # now knowing of it
    page.wait_for_selector(".signed-line >> text=Chronic myeloid leukaemia, Chronic phase")
    page.wait_for_selector("[data-part=review] >> text=Second reader: Test Ben, Chronic myeloid leukaemia")


def test_the_critical_loop_is_seen_everywhere_and_closed_with_read_back(send, open_page):
    page = open_page(path="/fleet")  # not even a page of cases
    send("AML")
    alert = page.locator("[data-part=alerts]")
    alert.locator("text=1 critical case is not acknowledged").wait_for()
    until(page, "document.title.startsWith('(1 urgent)')")
    assert (
        page.locator("[aria-live]").inner_text() == "1 critical case is not acknowledged"
    )  # for who hears it
    other = open_page("lab_lead")
    other.wait_for_selector("text=1 critical case is not acknowledged")
    alert.locator("a:has-text('HL-1')").click()
    page.wait_for_url("**/cases/ward/HL-1#critical")
    page.wait_for_selector('[data-line="live"]')
    assert "look for Auer rods, check coagulation" in page.locator("#critical").inner_text()
    page.keyboard.press("a")
    form = page.locator("form[action$='/call']")
    form.wait_for()
    until(other, "document.querySelector('[data-part=alerts]').hidden")  # told to everybody at once
    until(page, "!document.title.startsWith('(')")
    form.locator("select[name=told_role]").select_option("ward_physician")
    form.locator("input[name=told_code]").fill("st-17")
    form.locator("button.primary").click()
    assert form.is_visible()  # the browser asks for the read-back
    form.locator("input[name=read_back]").check()
    form.locator("button.primary").click()
    page.wait_for_selector("#critical >> text=Ward physician on duty (st-17)")
    page.goto(page.url.split("/cases")[0] + "/critical")
    page.wait_for_selector("table.calls >> text=Ward physician on duty (st-17)")


def test_a_readers_suspicion_moves_the_case_on_a_colleagues_screen(place, send, open_page):
    desk, _far = place
    send("healthy", code="HL-0")
    send("healthy")
    colleague = open_page(name="ben")
    rows = "[...document.querySelectorAll('[data-list] tr')].map(row => row.dataset.key.split('/')[1]).join()"
    until(colleague, f"{rows} === 'HL-0,HL-1'")
    reader = desk.sign_in("haematologist", name="anna")
    at = "/api/v1/cases/ward/HL-1"
    reader.post(f"{at}/claim", json={}).raise_for_status()
    said = {"conclusion": "ALL", "reason": "blasts_missed"}
    reader.post(f"{at}/conclude", json=said).raise_for_status()
    until(colleague, f"{rows} === 'HL-1,HL-0'")
    row = colleague.locator('[data-key="ward/HL-1"]')
    assert "raised by a reader" in row.inner_text()
    assert "critical" in row.get_attribute("class")
    colleague.wait_for_selector("text=1 critical case is not acknowledged")


def test_a_blind_reader_speaks_first_and_then_sees_the_answer(place, send, open_page):
    desk, _far = place
    send("CLL")
    client = desk.sign_in("haematologist")
    client.post("/reading", data={"blind": "yes", "csrf": client.headers["x-csrf-token"]})
    page = open_page(path="/cases/ward/HL-1")
    assert page.locator("text=The model's answer is hidden").is_visible()
    assert page.locator(".frame canvas[data-overlay]").count() == 0
    assert page.locator(".panels").count() == 0
    page.locator("form[action$='/impression'] input[value=CML]").check()
    page.locator("form[action$='/impression'] button.primary").click()
    page.wait_for_selector("text=AI preliminary result")
    page.wait_for_selector('.frame canvas[data-drawn="on"]')
    assert "First impression" in page.locator(".opinion.impression").inner_text()


def test_what_is_written_outlives_a_conflict_and_an_ended_session(place, send, open_page):
    desk, _far = place
    send("CLL")
    page = open_page(path="/cases/ward/HL-1")
    page.locator("button:has-text('Claim')").click()
    form = page.locator("form[action$='/conclude']")
    form.locator("input[value=CLL]").check()
    form.locator("textarea").fill("smudge cells")
    page.context.clear_cookies()
    form.locator("button.primary").click()
    page.wait_for_selector("text=Your session has ended")
    desk.admit(page, "haematologist")  # as in another tab
    page.locator("[data-do=back]").click()
    page.wait_for_selector("text=Your session has ended", state="hidden")
    lead = desk.sign_in("lab_lead")
    lead.post("/api/v1/cases/ward/HL-1/take-over", json={"reason": "a test"}).raise_for_status()
    form.locator("button.primary").click()
    refusal = form.locator("[data-refusal]")
    refusal.wait_for()
    assert "nothing was saved" in refusal.inner_text()
    assert form.locator("textarea").input_value() == "smudge cells"
    page.locator("text=Test Lab Lead has this case").wait_for()
    form.locator("button.primary").click()  # now knowing of it: refused for what it is
    refusal.filter(has_text="Test Lab Lead has this case").wait_for()
    page.reload()
    assert page.evaluate("Object.values(sessionStorage).includes('smudge cells')") is True
    # It is kept for its writer, and for nobody who signs in after them.
    lead.post("/api/v1/cases/ward/HL-1/release", json={}).raise_for_status()
    for name, kept in (("ben", ""), ("haematologist", "smudge cells")):
        desk.admit(page, "haematologist", name=name)
        page.reload()
        page.locator("button:has-text('Claim')").click()
        form.locator("textarea").wait_for()
        until(page, f"document.querySelector('form[action$=conclude] textarea').value === '{kept}'")
        page.locator("button:has-text('Give back')").click()
        page.wait_for_selector("text=Nobody has this case")


def test_a_technician_looks_and_may_not_act(send, open_page):
    send("AML")
    page = open_page("technician", path="/cases/ward/HL-1")
    assert page.locator("text=Your role may look, and not review").is_visible()
    assert page.locator("form[data-act]").count() == 0
    assert page.locator("[data-part=alerts]").is_hidden()


def test_the_desk_is_readable_in_both_themes(send, open_page):
    """Contrast of every visible text against its background, WCAG 2.2, 1.4.3 (AA)."""
    send("AML")
    send("CLL", code="HL-2", decision="refer", reasons=("ood: unlike",))
    page = open_page(name="anna")
    origin = page.url.rstrip("/")
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        for path in ("/cases/ward/HL-1", "/cases/ward/HL-2", "/critical"):
            page.goto(origin + path)
            page.wait_for_selector('[data-line="live"]')
            if path.endswith("HL-1") and theme == "light":
                page.keyboard.press("c")
                page.wait_for_selector("text=The case is yours")
            assert page.evaluate(LOW_CONTRAST) == [], (theme, path)


def test_a_key_in_the_viewer_resolves_the_frame_that_is_shown_and_no_other(place, send, open_page):
    desk, _far = place
    first, second = send("CLL", number=2, decision="refer", reasons=("ood: unlike the training smears",))
    page = open_page(name="anna", path="/cases/ward/HL-1")
    page.locator(".picture").first.click()
    page.wait_for_selector(f".detail form[data-resolve] input[value='{first}']", state="attached")
    # The words of the next frame are slow: they come when the route is taken away.
    page.route(f"**/fragments/frames/{second}", lambda _route: None)
    page.keyboard.press("j")
    page.wait_for_selector("[data-title]:has-text('Frame 2 of 2')")
    until(page, "document.querySelector('.detail').textContent === ''")
    page.keyboard.press("3")
    page.unroute(f"**/fragments/frames/{second}")
    form = page.locator(f".detail form[data-resolve]:has(input[value='{second}'])")
    form.wait_for()
    # What is being chosen stays, though the frame's card is drawn again: a colleague resolves it meanwhile.
    page.keyboard.press("x")
    colleague = desk.sign_in("lab_lead")
    case = "/api/v1/cases/ward/HL-1"
    colleague.post(f"{case}/resolve", json={"frame": second, "label": "ALL"}).raise_for_status()
    page.wait_for_selector(f".frame[data-frame='{second}'] .marked >> text=lab-lead", state="attached")
    page.wait_for_timeout(500)
    assert form.locator("input[value=not_assessable]").is_checked()
    page.keyboard.press("Enter")
    form.locator("[data-kept]:has-text('Not assessable')").wait_for()
    labels = {one["frame_id"]: one["label"] for one in colleague.get(f"{case}/review").json()["frames"]}
    assert labels == {first: None, second: "not_assessable"}


def test_what_is_left_to_resolve_is_walked_through_without_leaving_the_viewer(send, open_page):
    send("CLL", number=4, decision="refer", reasons=("ood: unlike the training smears",))
    page = open_page(path="/cases/ward/HL-1?show=unresolved")
    page.locator(".picture").nth(1).click()
    for number, key, left in ((2, "j", 3), (3, "j", 2), (4, "k", 1), (1, "j", 0)):
        page.wait_for_selector(f"[data-title]:has-text('Frame {number} of 4')")
        page.wait_for_selector(".detail form[data-resolve]")
        page.keyboard.press("4")
        until(page, f"document.querySelectorAll('.frame').length === {left}")
        page.keyboard.press(key)
    page.keyboard.press("Escape")
    assert page.locator("[data-part=more] >> text=Nothing is left here").is_visible()
    assert gate(page, "resolved").and_(page.locator(".met")).is_visible()


def test_the_worklist_is_no_wider_than_the_window_and_paper_shows_a_comment_whole(place, send, open_page):
    desk, _far = place
    send("ALL", code="A-VERY-LONG-CODE-0123456789-ABCDEF-HL-01", number=3, frame_simulated=True)
    send("CLL")
    reader = desk.sign_in("haematologist")
    case = "/api/v1/cases/ward/HL-1"
    reader.post(f"{case}/claim", json={}).raise_for_status()
    said = {"conclusion": "CLL", "comment": "smudge cells\n" * 60}
    reader.post(f"{case}/conclude", json=said).raise_for_status()
    page = open_page("lab_lead", name="annemarie-von-und-zu-hohenlohe", path="/?status=all")
    for width in (820, 901, 1024, 1181, 1240, 1321, 1361, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == width
    page.goto(f"{desk.url}/cases/ward/HL-1")
    page.emulate_media(media="print")
    assert page.locator(".comment").evaluate("one => one.scrollHeight - one.clientHeight") == 0


def test_a_frame_whose_image_is_lost_says_so_and_shows_no_map_over_nothing(place, send, open_page, tmp_path):
    desk, _far = place
    (lost,) = send("AML")
    send("AML")
    sha256 = desk.http.get(f"/api/v1/frames/{lost}").raise_for_status().json()["image_sha256"]
    next((tmp_path / "desk").rglob(sha256)).unlink()
    page = open_page(path="/cases/ward/HL-1")
    card = page.locator(f".frame[data-frame='{lost}']")
    card.locator("text=The image cannot be shown").wait_for()
    assert (
        card.locator("canvas, .scale-text").evaluate_all("all => all.some(one => one.checkVisibility())")
        is False
    )
    drawn = """() => { const canvas = document.querySelector('.viewer [data-overlay]');
      return canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean); }"""
    card.locator(".picture").click()
    said = page.locator(".viewer [data-lost]")
    said.filter(has_text="The image of this frame cannot be shown").wait_for()
    assert page.evaluate(drawn) is False
    assert page.locator(".viewer [data-scale]").is_hidden()
    page.keyboard.press("j")  # the next one has its image
    until(page, drawn)
    assert said.inner_text() == ""
    assert page.locator(".viewer [data-scale]").is_visible()
