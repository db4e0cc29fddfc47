"""The pages in a real Chromium: live, overlay, viewer, keyboard, and no complaint in the console."""

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


@pytest.fixture
def clean_page(page):
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
    page.wait_for_function("[...document.querySelectorAll('.thumbs img')].every(i => i.naturalWidth > 0)")

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
    page.wait_for_function("document.querySelector('[data-image]').naturalWidth === 160")
    before = viewer.locator("[data-zoom]").inner_text()
    page.keyboard.press("+")
    assert viewer.locator("[data-zoom]").inner_text() != before
    assert "µm" in viewer.locator("[data-scale-text]").inner_text()
    page.keyboard.press("j")
    page.wait_for_function("document.querySelector('[data-title]').textContent === 'Frame 2 of 2'")
    page.keyboard.press("Escape")
    assert not viewer.is_visible()
    page.keyboard.press("?")
    assert page.locator("dialog.help").is_visible()


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
