"""Takes docs/images/worklist.png and case.jpg from a running demo (scripts/screenshots)."""

import argparse
import shutil
import tempfile
import threading
from pathlib import Path

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
    """Sign in, and write both pictures."""
    page.goto(address)
    page.get_by_label("Name").fill("haematologist")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_timeout(2000)
    page.screenshot(path=IMAGES / "worklist.png")
    page.locator("a[href*='/cases/']").first.click()
    page.wait_for_timeout(3000)
    page.screenshot(path=IMAGES / "case.jpg", type="jpeg", quality=85)


if __name__ == "__main__":
    main()
