"""The pages in a real Chromium: live, overlay, viewer, keyboard, and no complaint in the console."""

import threading
import time

import pytest

from broker_config.messages import ModelIdentity

pytestmark = pytest.mark.browser

OPAQUE_PIXELS = """canvas => {
  const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let opaque = 0;
  for (let at = 3; at < data.length; at += 4) if (data[at] > 0) opaque += 1;
  return opaque;
}"""


@pytest.fixture
def place(embedded_broker, tmp_path, desk, far_side):
    with (
        desk(embedded_broker.port, tmp_path / "desk", protocol="3.1.1") as running,
        far_side(embedded_broker.port, protocol="3.1.1") as far,
    ):
        yield running, far


def until(page, expression):
    """Wait until ``expression`` is true in the page. Playwright's own way needs eval, which the page's policy forbids."""
    deadline = time.monotonic() + 15
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


@pytest.fixture
def clean_page(page, place):
    """A page that fails the test on a console error, an exception, or an answer of 500 and above."""
    complaints = []

    def note(message):
        # The pixels are read back by the test itself, which Chromium remarks on.
        if message.type in ("error", "warning") and "willReadFrequently" not in message.text:
            complaints.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "response", lambda answer: answer.status >= 500 and complaints.append(f"{answer.status} {answer.url}")
    )
    page.set_default_timeout(15_000)
    desk, _far = place
    desk.admit(page)
    yield page
    assert complaints == []


def test_a_case_appears_without_a_reload_and_its_overlay_is_drawn(place, make, clean_page):
    desk, far = place
    page = clean_page
    page.goto(desk.url)
    page.wait_for_selector('[data-line="live"]')
    page.evaluate("window.notReloaded = true")
    assert page.locator("text=No case yet").is_visible()

    simulated = ModelIdentity(name="m", version="1", weights_sha256="a" * 64, simulated=True)
    frame = make.frame("HL-LIVE", simulated=True)
    far.send(frame, make.diagnosis(frame, model=simulated))
    row = page.locator('[data-key="ward/HL-LIVE"]')
    row.locator("text=Acute myeloid leukaemia suspected").wait_for()
    page.wait_for_selector(".tape")
    assert page.evaluate("window.notReloaded") is True
    assert row.locator("time[data-age]").inner_text()
    until(page, "[...document.querySelectorAll('.thumbs img')].every(i => i.naturalWidth > 0)")

    # Keyboard: choose and open.
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/cases/ward/HL-LIVE")
    page.wait_for_selector('[data-line="live"]')
    canvas = page.locator(".frame canvas[data-overlay]")
    page.wait_for_selector('.frame canvas[data-drawn="on"]')
    assert canvas.evaluate(OPAQUE_PIXELS) > 500
    page.keyboard.press("o")
    assert canvas.evaluate(OPAQUE_PIXELS) == 0
    page.keyboard.press("o")
    assert canvas.evaluate(OPAQUE_PIXELS) > 500

    # A second frame joins the open case; the first keeps its element, and so its image.
    page.evaluate("document.querySelector('.frame').kept = true")
    second = make.frame("HL-LIVE")
    reasons = ("ood: unlike the training images",)
    far.send(second, make.diagnosis(second, decision="refer", reasons=reasons))
    page.wait_for_selector(f'[data-frame="{second.frame_id}"].refer')
    assert page.evaluate("document.querySelector('.frame').kept") is True
    assert page.locator(".verdict.refer").inner_text().strip() == "REFER"
    assert (
        page.locator(f'[data-frame="{second.frame_id}"]').evaluate("e => getComputedStyle(e).borderStyle")
        == "dashed"
    )


def test_the_viewer_zooms_shows_a_scale_bar_and_the_figures(place, make, clean_page):
    desk, far = place
    page = clean_page
    frames = [make.frame("HL-VIEW") for _ in range(2)]
    for frame in frames:
        far.send(frame, make.diagnosis(frame))
    page.goto(f"{desk.url}/")
    page.locator('[data-key="ward/HL-VIEW"]').wait_for()
    page.goto(f"{desk.url}/cases/ward/HL-VIEW")
    page.locator(".picture").first.click()
    page.wait_for_selector(".detail .decision")
    viewer = page.locator("dialog.viewer")
    assert viewer.locator("[data-title]").inner_text() == "Frame 1 of 2"
    assert viewer.locator("canvas[data-overlay]").evaluate(OPAQUE_PIXELS) > 500
    assert viewer.locator("[data-image]").is_visible()
    until(page, "document.querySelector('[data-image]').naturalWidth === 160")
    before = viewer.locator("[data-zoom]").inner_text()
    page.keyboard.press("+")
    assert viewer.locator("[data-zoom]").inner_text() != before
    assert "µm" in viewer.locator("[data-scale-text]").inner_text()
    page.keyboard.press("j")
    until(page, "document.querySelector('[data-title]').textContent === 'Frame 2 of 2'")
    page.keyboard.press("Escape")
    assert not viewer.is_visible()
    page.keyboard.press("?")
    assert page.locator("dialog.help").is_visible()


def test_a_case_of_many_frames_is_turned_by_keyboard_and_holds_still_while_frames_come(
    place, make, clean_page, eventually
):
    desk, far = place
    page = clean_page
    frames = [make.frame("HL-MANY") for _ in range(100)]
    for number, frame in enumerate(frames):
        far.send(frame, make.diagnosis(frame, decision="refer" if number == 99 else "report"))
    eventually(lambda: desk.summary()["frames"], within_s=30)  # before, the address leads nowhere
    page.goto(f"{desk.url}/cases/ward/HL-MANY")
    page.wait_for_selector('[data-line="live"]')
    page.wait_for_selector(".chip:has-text('All') >> text=100")
    numbers = "[...document.querySelectorAll('.frame')].map(f => Number(f.dataset.number))"
    chosen = "document.querySelector('.frame[aria-selected=true]')?.dataset.number"
    assert page.evaluate(numbers) == list(range(1, 49))

    # Through the list and over its end, then back; the viewer goes on in the same way.
    page.evaluate("window.notReloaded = true")
    for _ in range(49):
        page.keyboard.press("j")
    until(page, f"{chosen} === '49'")
    page.keyboard.press("Enter")
    title = page.locator("[data-title]")
    title.filter(has_text="Frame 49 of 100").wait_for()
    page.keyboard.press("k")
    title.filter(has_text="Frame 48 of 100").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    until(page, f"({numbers})[0] === 49")
    page.locator(".chip:has-text('Referred')").click()
    until(page, f"JSON.stringify({numbers}) === '[100]'")
    page.locator(".chip:has-text('All')").click()
    until(page, f"({numbers}).length === 48")
    assert page.evaluate("window.notReloaded") is True

    # What arrives on a later page neither moves nor redraws this one.
    page.evaluate("window.scrollTo(0, 1500)")
    place_of = "document.querySelector('.frame[data-number=\"20\"]').getBoundingClientRect().top"
    before = page.evaluate(place_of)
    page.evaluate("document.querySelectorAll('.frame').forEach(frame => { frame.kept = true; })")
    late = make.frame("HL-MANY")
    far.send(late, make.diagnosis(late))
    page.wait_for_selector(".chip:has-text('All') >> text=101")
    assert page.evaluate(place_of) == before
    assert page.evaluate("[...document.querySelectorAll('.frame')].every(frame => frame.kept)") is True


def test_changes_that_come_fast_do_not_put_off_the_page_for_ever(place, clean_page):
    desk, _far = place
    page = clean_page
    page.goto(desk.url)
    page.wait_for_selector('[data-line="live"]')

    def change():
        # A change every 50 ms for two seconds: closer together than the time in which the page gathers several.
        for _ in range(40):
            desk.dashboard._feed.publish("case", site="ward", code="HL-1")
            time.sleep(0.05)

    thread = threading.Thread(target=change)
    thread.start()
    drawn = page.evaluate("""() => new Promise(done => {
      let drawn = 0;
      document.addEventListener('parts-updated', () => { drawn += 1; });
      setTimeout(() => done(drawn), 1900);
    })""")
    thread.join()
    assert drawn >= 1


def test_a_page_in_the_background_gives_its_line_back_and_catches_up(place, make, clean_page, eventually):
    """A browser has six lines to one server: seven open tabs would otherwise leave none to load a page with."""
    desk, far = place
    page = clean_page
    page.goto(desk.url)
    page.wait_for_selector('[data-line="live"]')

    def listeners(count):
        return f"hemolink_dashboard_listeners {count}.0" in desk.http.get("/metrics").text

    turn = """hidden => {
      Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    }"""
    eventually(lambda: listeners(1))
    page.evaluate(turn, True)
    eventually(lambda: listeners(0), what="the line is given back")
    frame = make.frame("HL-MEANWHILE")
    far.send(frame, make.diagnosis(frame))
    eventually(lambda: desk.summary()["recorded"] == 1)
    page.evaluate(turn, False)
    page.wait_for_selector('[data-key="ward/HL-MEANWHILE"]')


def test_eight_windows_of_one_browser_share_one_line(place, make, clean_page, eventually):
    desk, far = place
    pages = [clean_page, *(clean_page.context.new_page() for _ in range(7))]
    for page in pages:
        page.goto(desk.url)
    for page in pages:
        page.wait_for_selector('[data-line="live"]')
    eventually(lambda: "hemolink_dashboard_listeners 1.0" in desk.http.get("/metrics").text)
    frame = make.frame("HL-EVERYWHERE")
    far.send(frame, make.diagnosis(frame))
    for page in pages:
        page.wait_for_selector('[data-key="ward/HL-EVERYWHERE"]')
    for page in pages[:-1]:
        page.close()
    late = make.frame("HL-LATER")
    far.send(late, make.diagnosis(late))
    pages[-1].wait_for_selector('[data-key="ward/HL-LATER"]')


def test_a_browser_without_shared_workers_has_a_line_of_its_own(place, make, clean_page):
    desk, far = place
    clean_page.add_init_script("delete window.SharedWorker")
    clean_page.goto(desk.url)
    clean_page.wait_for_selector('[data-line="live"]')
    frame = make.frame("HL-OWN")
    far.send(frame, make.diagnosis(frame))
    clean_page.wait_for_selector('[data-key="ward/HL-OWN"]')


def test_text_is_readable_in_both_themes(place, make, clean_page):
    """Contrast of every visible text against its background, WCAG 2.2, 1.4.3 (AA)."""
    desk, far = place
    page = clean_page
    for leading, decision in (
        ("AML", "report"),
        ("CLL", "report"),
        ("healthy", "refer"),
        ("healthy", "report"),
    ):
        frame = make.frame(f"HL-{leading}-{decision}", simulated=True)
        far.send(frame, make.diagnosis(frame, leading, decision=decision, reasons=("code: a reason",)))
    far.send(make.rejection(make.frame()), make.state(alarm="the spool is nearly full"))
    page.goto(desk.url)
    page.wait_for_selector('[data-key="ward/HL-healthy-report"]')
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        for path in (
            "/",
            "/cases/ward/HL-AML-report",
            "/cases/ward/HL-healthy-refer",
            "/attention",
            "/fleet",
            "/health",
        ):
            page.goto(desk.url + path)
            page.wait_for_selector('[data-line="live"]')
            assert page.evaluate(LOW_CONTRAST) == [], (theme, path)


LOW_CONTRAST = """() => {
  const channel = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const rgba = (text) => (text.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const box = element.getBoundingClientRect();
    if (!own || box.width < 2 || !element.checkVisibility() || element.closest('.picture, svg, .skip, .hidden')) continue;
    let back = element;
    let background = rgba(getComputedStyle(back).backgroundColor);
    while (background[3] === 0 && back.parentElement) {
      back = back.parentElement;
      background = rgba(getComputedStyle(back).backgroundColor);
    }
    const style = getComputedStyle(element);
    const pair = [luminance(rgba(style.color)), luminance(background)].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) poor.push(`${element.className || element.tagName}: ${ratio.toFixed(2)} ${element.textContent.trim().slice(0, 30)}`);
  }
  return poor;
}"""
