"""Pictures of the storyboard page for the documentation: `make screenshots` writes docs/studio-*.png.

A real server, a real browser, and films that holo-tiny makes meanwhile.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from studio_process import CHROMIUM, chromium, running_studio

from holo_lite.story.files import dump_toml
from holo_lite.tiny.demo import storyboard

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DESK, TABLET = (1280, 800), (1024, 768)
COLOURS = 256  # of a picture's palette: a quarter of the bytes, and hardly a difference to the eye
LONG = 600_000  # milliseconds; a guard against hanging
ANSWERED = "holo-plan:not([data-state=working])"
PREVIEW = ".job img[src*=preview]"


def main() -> None:
    """Take all pictures."""
    from playwright.sync_api import sync_playwright

    program = chromium()
    if program is None:
        sys.exit(CHROMIUM)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_studio(Path(folder)) as studio,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        _written(browser, studio.link)
        _made(browser, studio.link)
        browser.close()


def _written(browser: Browser, link: str) -> None:
    """A storyboard, on a desk and on a tablet, by day."""
    for name, size in (("storyboard", DESK), ("tablet", TABLET)):
        page = _opened(browser, link, "light", size)
        _open(page, (ROOT / "storyboards" / "lighthouse.toml").read_text(encoding="utf-8"))
        page.wait_for_selector(ANSWERED, timeout=LONG)
        _take(page, name)
        page.context.close()


def _made(browser: Browser, link: str) -> None:
    """A film on its way, and when it is there: on the strip and in the player, by night."""
    page = _opened(browser, link, "dark", DESK)
    _open(page, dump_toml(storyboard()))
    page.wait_for_selector(ANSWERED, timeout=LONG)
    page.get_by_role("button", name="Make it").click()
    page.wait_for_selector(PREVIEW, timeout=LONG)
    page.locator(".job-state", has_text="step 6").wait_for(timeout=LONG)
    page.locator(".shot-coming").last.wait_for(timeout=LONG)
    page.locator("h1").hover()
    _take(page, "coming")
    page.locator("holo-queue").evaluate("queue => queue.scrollIntoView({ block: 'end' })")
    page.locator("h1").hover()
    _take(page, "making")
    page.wait_for_selector(".job[data-state=done]", timeout=LONG)
    page.evaluate("scrollTo(0, 0)")
    page.locator(".strip .pictured").last.wait_for(timeout=LONG)
    page.wait_for_timeout(2000)  # until the pictures are drawn
    _take(page, "made")
    page.get_by_role("link", name="Films").click()
    page.locator(".poster").click(timeout=LONG)
    page.locator(".shot-list button").nth(2).click()
    page.locator("dialog.player").hover()
    page.wait_for_timeout(4000)  # until the player's controls and its wheel are gone
    _take(page, "player")
    page.context.close()


def _opened(browser: Browser, link: str, scheme: Any, size: tuple[int, int]) -> Page:
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, has_touch=size == TABLET
    )
    page = context.new_page()
    page.add_init_script("localStorage.setItem('holo-lite first run', 'yes')")
    page.goto(link)
    page.wait_for_selector("body.ready")
    return page


def _open(page: Page, text: str) -> None:
    """Open a storyboard as the page does."""
    address = page.url.split("#")[0] + "api/open"
    page.request.post(address, data={"text": text, "name": "storyboard.toml"}, headers={"x-holo": "1"})
    page.wait_for_timeout(1500)  # until it is seen, and its plan is asked for


def _take(page: Page, name: str) -> None:
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    path = DOCS / f"studio-{name}.png"
    few = picture.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    sys.stdout.write(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
