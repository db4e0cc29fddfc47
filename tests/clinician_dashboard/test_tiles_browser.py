"""A frame of 27 megapixels in a real Chromium: fetched in tiles, never whole, and moved without a stutter."""

import time

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.browser

WIDTH, HEIGHT = 6000, 4500
SEEN = "document.querySelector('[data-tiles]').dataset.drawn"
WATCH = """() => {
  window.tooLong = [];
  new PerformanceObserver((list) => { for (const one of list.getEntries()) window.tooLong.push(Math.round(one.duration)); })
    .observe({ entryTypes: ["longtask"] });
}"""
PIXEL = """() => {
  const canvas = document.querySelector("[data-tiles]");
  const { data } = canvas.getContext("2d").getImageData(canvas.width / 2, canvas.height / 2, 1, 1);
  return [...data];
}"""


@pytest.fixture
def seen(page):
    """The page's complaints and the addresses it asked for."""
    complaints, asked = [], []
    page.on("console", lambda one: one.type == "error" and complaints.append(one.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: "/frames/" in request.url and asked.append(request.url))
    page.on("response", lambda answer: answer.status >= 400 and complaints.append(answer.url))
    yield asked
    assert complaints == []


def picture():
    rng = np.random.default_rng(1)
    field = cv2.resize(rng.integers(150, 240, (45, 60, 3), dtype=np.uint8), (WIDTH, HEIGHT))
    field[2150:2350, 2900:3100] = (20, 30, 200)  # a mark in the very middle
    return cv2.imencode(".jpg", field)[1].tobytes()


def test_a_large_frame_is_seen_in_tiles(
    embedded_broker, tmp_path, desk, far_side, make, eventually, page, seen
):
    asked = seen

    def tiles():
        return [url for url in asked if "/tiles/" in url]

    def until_drawn(level, within_s=30):
        deadline = time.monotonic() + within_s
        while page.evaluate(SEEN) != f"{level} true":
            assert time.monotonic() < deadline, (page.evaluate(SEEN), len(asked))
            page.wait_for_timeout(20)

    with (
        desk(embedded_broker.port, tmp_path / "desk", protocol="3.1.1") as running,
        far_side(embedded_broker.port, protocol="3.1.1") as far,
    ):
        frame = make.frame(image=picture(), width=WIDTH, height=HEIGHT, pixel_size_um=0.1)
        far.send(frame, make.diagnosis(frame))
        eventually(lambda: running.summary()["recorded"] == 1)
        page.set_viewport_size({"width": 1400, "height": 900})
        running.admit(page)
        page.goto(f"{running.url}/cases/ward/HL-0001")
        page.locator(".picture").click()
        page.evaluate(WATCH)
        until_drawn(2)
        assert len(tiles()) <= 9  # all of that level
        assert page.evaluate(PIXEL)[0] > 180 > page.evaluate(PIXEL)[2]
        # The overlay lies over the whole frame, and the scale bar measures it.
        boxes = page.evaluate(
            "[...document.querySelectorAll('.plane, .plane canvas')].map(e => e.getBoundingClientRect().width)"
        )
        assert boxes[0] == pytest.approx(boxes[1], abs=1)
        zoom = boxes[0] / WIDTH
        line = page.evaluate("document.querySelector('[data-scale-line]').getBoundingClientRect().width")
        told = float(page.locator("[data-scale-text]").inner_text().split("\u202f")[0])
        assert line == pytest.approx(told / 0.1 * zoom, rel=0.05)

        stage = page.locator("[data-stage]").bounding_box()
        middle = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
        page.mouse.move(*middle)
        for _ in range(12):
            page.mouse.wheel(0, -120)
        page.wait_for_timeout(30)
        until_drawn(0)
        assert page.evaluate(PIXEL)[0] > 180 > page.evaluate(PIXEL)[2]
        assert len(tiles()) <= 9 + 40  # what the wheel passed through was hardly asked for
        page.mouse.down()
        for step in range(40):
            page.mouse.move(middle[0] - 8 * step, middle[1] - 3 * step)
        page.mouse.up()
        for key in ("ArrowLeft", "ArrowUp", "-", "+", "0"):
            page.keyboard.press(key)
        until_drawn(2)
        assert len(tiles()) <= 100  # of 153 that there are
        assert len(tiles()) == len(set(tiles()))
        assert not [url for url in asked if url.endswith("/image")]
        longest = max(page.evaluate("window.tooLong"), default=0)
        print(f"{len(tiles())} tiles; tasks over 50 ms: {page.evaluate('window.tooLong')}")
        assert longest < 400  # 100 on an idle machine; this one may be loaded
        page.screenshot(path=tmp_path / "tiles.png")
        page.keyboard.press("Escape")
        page.goto("about:blank")
