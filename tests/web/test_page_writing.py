"""A storyboard from an idea, in a real browser: how far it is, and what was found on the way."""

import json
import threading

import pytest
from chat_server import chat_server, said
from studio_process import CHROMIUM, PLAYWRIGHT, chromium, running_studio

pytest.importorskip("playwright", reason=PLAYWRIGHT)

from playwright.sync_api import expect, sync_playwright

WAIT = 120_000  # milliseconds; a guard against hanging on a machine that does other things
SCENE = "A lighthouse at night. [character1] is a man in a yellow coat."
CAPTIONS = ["Wide shot of [character1] on the rocks.", "Close-up of [character1]. <b>bold</b>"]


def answer(*captions):
    shots = [{"caption": each, "seconds": 5} for each in captions]
    return json.dumps({"title": "Dark", "global": SCENE, "shots": shots})


@pytest.fixture(scope="module")
def window():
    """One window for all tests, which an empty tab holds open: a new one takes a second and more."""
    program = chromium() or pytest.skip(CHROMIUM)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        expect.set_options(timeout=WAIT)
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.new_page()
        yield context
        browser.close()


@pytest.fixture
def page(window):
    """Gives a page whose server asks a chat server."""
    wrong = []

    def of(studio):
        page = window.new_page()
        page.set_default_timeout(WAIT)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(studio.link)
        page.wait_for_selector("body.ready")
        page.get_by_role("button", name="From an idea").click()
        page.get_by_label("The idea").fill("a lighthouse keeper loses the light")
        page.get_by_role("spinbutton", name="Shots").fill("2")
        page.get_by_role("spinbutton", name="Seconds").fill("10")
        return page

    yield of
    for tab in window.pages[1:]:
        tab.close()
    assert wrong == []


def test_what_was_found_and_sent_back_is_shown_until_it_is_read(page, tmp_path):
    one = answer("Wide shot of [character1].")
    with chat_server(said(one), said(answer(*CAPTIONS))) as chat, studio_of(tmp_path, chat) as studio:
        tab = page(studio)
        tab.get_by_role("button", name="Write it").click()
        lines = tab.locator(".written li")
        expect(lines).to_have_text(["Try 1, sent back: number of shots: there are 1, and 2 were asked for"])
        expect(tab.locator("dialog .far")).to_contain_text("on the page")
        expect(tab.locator("holo-captions textarea").nth(1)).to_have_value(CAPTIONS[1])
        tab.get_by_role("dialog").locator("footer").get_by_role("button", name="Close").click()
        expect(tab.get_by_role("dialog")).to_have_count(0)
        assert len(chat.questions) == 2


def test_how_far_it_is_is_told_and_what_remains_is_text(page, tmp_path):
    late = threading.Event()
    odd = answer("Wide shot of [character1] <i>once</i>.", "Close-up of [character7].")
    answers = said(odd), said(odd), said(odd, late=late)
    with chat_server(*answers) as chat, studio_of(tmp_path, chat) as studio:
        tab = page(studio)
        tab.get_by_role("button", name="Write it").click()
        expect(tab.locator("dialog .far")).to_contain_text("Try 3 of 3")
        expect(tab.locator(".written li").first).to_contain_text("Try 1, sent back")
        late.set()
        expect(tab.locator(".written li").last).to_contain_text("Remains: ")
        expect(tab.locator(".written")).to_contain_text("[character7]")
        assert tab.locator(".written i").count() == 0


def test_where_nothing_is_found_the_dialog_closes(page, tmp_path):
    with chat_server(said(answer(*CAPTIONS))) as chat, studio_of(tmp_path, chat) as studio:
        tab = page(studio)
        tab.get_by_role("button", name="Write it").click()
        expect(tab.get_by_role("dialog")).to_have_count(0)
        expect(tab.locator("input.title")).to_have_value("Dark")


def studio_of(folder, chat):
    return running_studio(folder, "--endpoint", chat.url)
