"""The comparison in a real Chromium: two frames move and zoom together, an earlier smear is found, a stopped model is named."""

import pytest

from tests.clinician_dashboard.desk.maker import WEIGHTS
from tests.clinician_dashboard.desk.people import PASSWORD

pytestmark = pytest.mark.browser

SHOWN = "[...document.querySelectorAll('[data-field] img')].map(image => image.style.transform)"


@pytest.fixture
def place(embedded_broker, tmp_path, desk, far_side):
    with (
        desk(embedded_broker.port, tmp_path / "desk", protocol="3.1.1") as running,
        far_side(embedded_broker.port, protocol="3.1.1") as far,
    ):
        yield running, far


def test_two_smears_of_a_patient_side_by_side(place, make, another, page, eventually):
    desk, far = place
    complaints = []
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    earlier = make.frame("HL-1", pixel_size_um=0.25)
    other = another("harbour", "cam-1")
    now = other.frame("HL-1", pixel_size_um=0.5)  # the same code at another site
    far.send(earlier, make.diagnosis(earlier, "CLL"), now, other.diagnosis(now, "CLL"))
    eventually(lambda: desk.summary()["recorded"] == 2)
    answer = desk.http.get("/compare/harbour/HL-1")
    assert answer.headers["location"] == f"/compare?left={earlier.frame_id}&right={now.frame_id}"
    assert desk.http.get("/compare/harbour/HL-9").status_code == 404
    assert desk.http.get("/compare", params={"left": "f" * 32, "right": now.frame_id}).status_code == 404
    assert desk.sign_in("admin").get("/compare/harbour/HL-1").status_code == 403
    assert desk.http.post(f"/api/v1/models/{WEIGHTS}/stop", params={"reason": "stain"}).status_code == 200

    desk.admit(page)
    page.set_viewport_size({"width": 1400, "height": 900})
    page.goto(f"{desk.url}/compare/harbour/HL-1")
    page.wait_for_selector("[data-compare][data-zoom='1.00']")
    assert page.locator("text=STOPPED MODEL").count() == 2
    left, right = page.evaluate(SHOWN)
    scale = [float(one.rpartition("scale(")[2].rstrip(")")) for one in (left, right)]
    assert scale[1] == pytest.approx(2 * scale[0], rel=1e-3)  # a micrometre is as long on both sides
    page.keyboard.press("+")
    page.wait_for_selector("[data-compare][data-zoom='1.50']")
    page.keyboard.press("ArrowRight")
    moved = page.evaluate(SHOWN)
    assert all(before != after for before, after in zip((left, right), moved, strict=True))
    page.uncheck("[data-same-scale]")
    same = [float(one.rpartition("scale(")[2].rstrip(")")) for one in page.evaluate(SHOWN)]
    assert same[0] == pytest.approx(same[1], rel=1e-3)
    assert complaints == []


def test_a_lost_image_and_the_state_of_an_earlier_smear_are_told_in_words(
    place, make, page, eventually, tmp_path
):
    desk, far = place
    earlier, now = make.frame("HL-1"), make.frame("HL-2")
    far.send(earlier, make.diagnosis(earlier, "CLL"), now, make.diagnosis(now, "CLL"))
    eventually(lambda: desk.summary()["recorded"] == 2)
    client = desk.sign_in("haematologist")

    def act(verb, *, code="HL-1", **body):
        client.post(f"/api/v1/cases/ward/{code}/{verb}", json=body).raise_for_status()

    for code in ("HL-1", "HL-2"):
        act("patient", code=code, patient_code="P-1")
    act("claim")
    act("view", frames=[earlier.frame_id])
    act("conclude", conclusion="CLL")
    act("sign", password=PASSWORD)
    later = make.frame("HL-1")
    far.send(later, make.diagnosis(later, "CLL"))
    eventually(lambda: desk.summary()["recorded"] == 3)
    next((tmp_path / "desk").rglob(earlier.image_sha256)).unlink()
    desk.admit(page)
    page.goto(f"{desk.url}/compare?left={earlier.frame_id}&right={now.frame_id}")
    assert "2 frames, amend needed" in page.locator(".priors").inner_text()
    lost, there = page.locator("[data-side=left]"), page.locator("[data-side=right]")
    lost.locator("text=The image of this frame cannot be shown").wait_for()
    assert lost.locator("[data-scale]").is_hidden()
    there.locator("[data-scale]").wait_for()
    assert there.locator(".lost").is_hidden()
