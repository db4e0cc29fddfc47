"""The links to the reports on the case's page, in a real Chromium."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.browser


def test_a_clinician_loads_the_pdf_from_the_cases_page_by_keyboard(
    embedded_broker, tmp_path, desk, far_side, make, eventually, page
):
    complaints = []
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("response", lambda answer: answer.status >= 500 and complaints.append(answer.url))
    with (
        desk(embedded_broker.port, tmp_path / "desk", protocol="3.1.1") as running,
        far_side(embedded_broker.port, protocol="3.1.1") as far,
    ):
        frame = make.frame(simulated=True)
        far.send(frame, make.diagnosis(frame))
        eventually(lambda: running.summary()["recorded"] == 1)
        running.admit(page)
        page.goto(f"{running.url}/cases/ward/HL-0001")
        link = page.get_by_role("link", name="PDF", exact=True)
        link.focus()
        with page.expect_download() as loading:
            page.keyboard.press("Enter")
        assert loading.value.suggested_filename.startswith("HL-0001-preliminary-v")
        assert Path(loading.value.path()).read_bytes().startswith(b"%PDF")
        page.screenshot(path=tmp_path / "case.png")
        page.goto("about:blank")
    assert complaints == []
