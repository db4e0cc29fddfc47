"""Takes docs/images/worklist.png and case.jpg from a running demo (scripts/screenshots)."""

import argparse
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from hemolink.console import console_for
from hemolink.demo import Demo
from hemolink.demo_settings import FRAMES_PER_CASE, DemoOptions

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
CASES = 7
VIEW = {"width": 1280, "height": 860}


def main() -> None:
    """Run the demo until enough cases are there, then look at its pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet34-simulated", help="model package")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        parser.error("Chromium is not installed: apt-get install chromium")
    options = DemoOptions(frames=CASES * FRAMES_PER_CASE, model=arguments.model)
    stopping = threading.Event()
    with tempfile.TemporaryDirectory(prefix="hemolink-pictures-") as folder:
        demo = Demo(options, directory=Path(folder), console=console_for(as_json=True), stopping=stopping)
        try:
            demo.start()
            watcher = threading.Thread(target=demo.run)
            watcher.start()
            while watcher.is_alive() and not demo.tally.complete:
                watcher.join(0.5)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=chromium, args=["--no-sandbox", "--no-first-run"]
                )
                take(browser.new_page(viewport=VIEW), demo.address, password=demo.password)
                browser.close()
            stopping.set()
            watcher.join()
        finally:
            demo.stop()


def take(page: Page, address: str, *, password: str) -> None:
    """Write both pictures: the worklist as it stands, then a critical case that two readers have signed."""
    reader = enter(page, address, "haematologist", password=password)
    page.wait_for_timeout(2000)
    page.screenshot(path=IMAGES / "worklist.png")
    page.locator("a[href*='/cases/']").first.click()
    page.wait_for_url("**/cases/*/*")
    site, code = page.url.partition("#")[0].split("/")[-2:]
    second = enter(page.context.browser.new_context().new_page(), address, "lab-lead", password=password)
    sign(reader, second, f"{address}api/v1", site, code, password=password)
    page.set_viewport_size({"width": 1280, "height": 1400})
    page.goto(f"{address}cases/{site}/{code}")
    page.wait_for_timeout(3000)
    page.screenshot(path=IMAGES / "case.jpg", type="jpeg", quality=85)


def enter(page: Page, address: str, name: str, *, password: str) -> Callable[..., dict[str, Any]]:
    """Sign somebody in; return what asks the API as them."""
    page.goto(address)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    token = page.locator("meta[name=csrf]").get_attribute("content") or ""

    def ask(url: str, **body: object) -> dict[str, Any]:
        if body:
            answer = page.request.post(url, data=body, headers={"x-csrf-token": token})
        else:
            answer = page.request.get(url)
        if not answer.ok:
            raise SystemExit(f"{url}: {answer.status} {answer.text()}")
        found: dict[str, Any] = answer.json()
        return found

    return ask


def sign(
    reader: Callable[..., dict[str, Any]],
    second: Callable[..., dict[str, Any]],
    api: str,
    site: str,
    code: str,
    *,
    password: str,
) -> None:
    """Read a case with two readers who confirm the model, tell the finding, and sign."""
    case = f"{api}/cases/{site}/{code}"
    shown = reader(f"{api}/cases/{code}?site={site}")
    leading = shown["result"]["leading"]
    said = {"conclusion": leading, "comment": "Many blasts, seen in each field."}
    reader(f"{case}/claim", revision=None)
    for ask in (reader, second):
        ask(f"{case}/view", frames=[frame["frame_id"] for frame in shown["frames"]])
        ask(f"{case}/conclude", **said)
    for frame in shown["frames"]:
        if frame["diagnoses"][-1]["decision"] == "refer":
            reader(f"{case}/resolve", frame=frame["frame_id"], label=leading)
    reader(f"{case}/acknowledge", revision=None)
    reader(f"{case}/call", told_role="ward_physician", told_code="st-17", read_back=True)
    reader(f"{case}/sign", password=password, warned=True)


if __name__ == "__main__":
    main()
