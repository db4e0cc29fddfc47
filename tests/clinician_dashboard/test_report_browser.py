"""Reports from the pages, in a real Chromium: signed PDF by keyboard, the page on paper, what the health record refused."""

import io
from pathlib import Path

import pypdf
import pytest

from tests.clinician_dashboard.desk.people import PASSWORD
from tests.clinician_dashboard.fhir_endpoint import FhirEndpoint, say

pytestmark = pytest.mark.browser


@pytest.fixture
def refusing():
    endpoint = FhirEndpoint().start()
    endpoint.always = say(422, "the ward has no such patient")
    yield endpoint
    endpoint.stop()


@pytest.fixture
def place(embedded_broker, tmp_path, desk, far_side, make, eventually, refusing):
    with (
        desk(
            embedded_broker.port,
            tmp_path / "desk",
            protocol="3.1.1",
            fhir_push={"base_url": refusing.base_url, "with_pdf": False},
        ) as running,
        far_side(embedded_broker.port, protocol="3.1.1") as far,
    ):
        frame = make.frame(simulated=True)
        far.send(frame, make.diagnosis(frame, "CLL"))
        eventually(lambda: running.summary()["recorded"] == 1)
        yield running, frame


@pytest.fixture
def clean_page(page, place):
    complaints = []
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("response", lambda answer: answer.status >= 500 and complaints.append(answer.url))
    page.set_default_timeout(20_000)
    place[0].admit(page, "haematologist", name="ada")
    yield page
    page.goto("about:blank")
    assert complaints == []


def sign(desk, frame):
    reader = desk.sign_in("haematologist", name="ada")
    for act, body in (
        ("claim", {}),
        ("view", {"frames": [frame.frame_id]}),
        ("conclude", {"conclusion": "CLL"}),
        ("sign", {"password": PASSWORD, "warned": True}),
    ):
        reader.post(f"/api/v1/cases/ward/HL-0001/{act}", json=body).raise_for_status()


def load(page, name):
    link = page.get_by_role("link", name=name, exact=True)
    link.focus()
    with page.expect_download() as loading:
        page.keyboard.press("Enter")
    return loading.value.suggested_filename, Path(loading.value.path()).read_bytes()


def words_of(paper):
    return " ".join(
        " ".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(paper)).pages).split()
    )


def test_a_clinician_loads_the_preliminary_and_the_signed_pdf_by_keyboard(place, clean_page, tmp_path):
    desk, frame = place
    page = clean_page
    page.goto(f"{desk.url}/cases/ward/HL-0001")
    name, paper = load(page, "PDF")
    assert name.startswith("HL-0001-preliminary-v")
    assert "Not signed" in words_of(paper)
    sign(desk, frame)
    page.get_by_text("Final report", exact=True).wait_for()  # told by the live line
    name, paper = load(page, "PDF")
    assert name == "HL-0001-final-v1.pdf"
    assert "Signed by a clinician" in words_of(paper)
    assert load(page, "DICOM SR")[1][128:132] == b"DICM"
    page.screenshot(path=tmp_path / "case.png", full_page=True)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_case_on_paper_says_what_it_is(place, clean_page, tmp_path, theme):
    desk, _frame = place
    page = clean_page
    page.emulate_media(color_scheme=theme)
    page.goto(f"{desk.url}/cases/ward/HL-0001")
    page.wait_for_selector('.frame canvas[data-drawn="on"]')
    paper = page.pdf(path=tmp_path / f"{theme}.pdf")
    text = words_of(paper)
    for words in ("Decision support, not a medical device", "SIMULATED", "Working copy", "HL-0001", "CLL"):
        assert words.lower() in text.lower(), words
    for words in ("Sign out", "Worklist", "Where the model looked"):
        assert words not in text
    page.emulate_media(media="print", color_scheme=theme)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    # The colours of classes and urgencies are the light theme's, whatever the screen had.
    asked = "['--critical', '--refer-soft', '--c-AML', '--icon-in', '--ink', '--paper']"
    style = "getComputedStyle(document.documentElement)"
    shown = page.evaluate(f"{asked}.map(name => {style}.getPropertyValue(name).trim())")
    assert shown == ["#a81b1b", "#f0ecfa", "#b8458f", "#fff", "#000000", "#ffffff"]


def test_what_was_refused_is_seen_and_sent_again(place, clean_page, tmp_path, refusing):
    desk, frame = place
    page = clean_page
    sign(desk, frame)
    page.goto(f"{desk.url}/deliveries")
    page.get_by_text("the ward has no such patient").wait_for()
    for theme, width in (("light", 1280), ("dark", 820)):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme)
        page.screenshot(path=tmp_path / f"deliveries-{theme}.png")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    refusing.always = None
    button = page.get_by_role("button", name="Send again")
    button.focus()
    page.keyboard.press("Enter")
    page.locator("tr", has_text="Arrived").wait_for()  # told by the live line
    assert refusing.seen == {"ward/HL-0001": ["final"]}
