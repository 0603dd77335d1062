"""The page in a real browser, on the real server, with holo-tiny: what a person does on it."""

import itertools
import re

import pytest
from studio_process import CHROMIUM, PLAYWRIGHT, chromium, running_studio

pytest.importorskip("playwright", reason=PLAYWRIGHT)

from playwright.sync_api import expect, sync_playwright

WAIT = 120_000  # milliseconds; a guard against hanging on a machine that does other things
RUN = 600_000  # the same, of a whole run
PREVIEW = re.compile("preview")
SHEET = 300  # pixels of the width of a frame on a contact sheet
CAPTIONS = ("Wide shot of [character1] moving right.", "Close-up of [character2].")
NUMBERS = itertools.count(1)
STORYBOARD = f"""
global = "A dark blue room. [character1] is a red circle. [character2] is a green square."
steps = 4
width = 64
height = 48
frames = 29
cuts = [13]
[[shot]]
caption = "{CAPTIONS[0]}"
[[shot]]
caption = "{CAPTIONS[1]}"
"""
LONGER = {"steps": 16, "width": 112, "height": 64}  # long enough to be met on the way


@pytest.fixture(scope="module")
def program():
    """The browser; without one no server is started either."""
    return chromium() or pytest.skip(CHROMIUM)


@pytest.fixture(scope="module")
def browser(program):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def studio(program, tmp_path_factory):
    folder = tmp_path_factory.mktemp(program.split("/")[-1])
    with running_studio(folder) as studio:
        yield studio


class Tabs:
    """Pages of one browser, and all that went wrong in them."""

    def __init__(self, context, link):
        self.context, self.link = context, link
        self.asked, self.wrong = [], []
        self._own = context.pages[:1]

    def open(self):
        page = self._own.pop() if self._own else self.context.new_page()
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", self._said)
        page.goto(self.link)
        page.wait_for_selector("body.ready")
        return page

    def _said(self, message):
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.wrong.append(message.text)


@pytest.fixture(scope="module")
def context(browser):
    """One window for all tests, and one tab, into which each loads the page: new ones take a second and more."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(WAIT)
    expect.set_options(timeout=WAIT)
    context.new_page()
    return context


@pytest.fixture
def tabs(context, studio):
    tabs = Tabs(context, studio.link)
    yield tabs
    for page in context.pages[1:]:
        page.close()
    assert tabs.wrong == []


@pytest.fixture
def page(tabs):
    """A page with a storyboard of two short shots."""
    page = tabs.open()
    title = f"Two shapes {next(NUMBERS)}"  # so that it is not taken for the one of the test before
    post(page, "open", text=f'title = "{title}"{STORYBOARD}', name="shapes.toml")
    expect(page.locator("input.title")).to_have_value(title)
    expect(caption(page, 1)).to_have_value(CAPTIONS[1])
    expect(page.locator(".strip .shot")).to_have_count(2)
    return page


def post(page, where, **said):
    """Ask the server as the page does."""
    address = page.url.split("#")[0] + f"api/{where}"
    answer = page.request.post(address, data=said, headers={"x-holo": "1"})
    assert answer.ok, answer.text()


def operate(page, **said):
    post(page, "board", **said)


def soon(event):
    """JavaScript: a promise that an event of `video` has come."""
    return f"new Promise(done => video.addEventListener('{event}', () => done(true), {{ once: true }}))"


def caption(page, index):
    return page.locator("holo-captions textarea").nth(index)


def cut(page, index=0):
    return page.get_by_role("slider").nth(index)


def toml(page):
    return page.request.get(page.url.split("#")[0] + "api/board.toml").text()


def test_what_is_written_in_one_tab_stands_in_the_other(tabs, page):
    other = tabs.open()
    caption(page, 0).fill("Wide shot of [character1] <b>alone</b>.")
    page.get_by_role("textbox", name="Title").fill("Two <i>shapes</i>")
    expect(caption(other, 0)).to_have_value("Wide shot of [character1] <b>alone</b>.")
    expect(other.locator("input.title")).to_have_value("Two <i>shapes</i>")
    expect(other.locator(".strip .shot").first).to_contain_text("<b>alone</b>")
    assert other.locator("main b:text('alone')").count() == 0, "what is typed is text, never HTML"


def test_what_somebody_types_is_not_written_over_by_what_comes_in(tabs, page):
    other = tabs.open()
    text = "Close-up of [character2], turning, in the light of a lamp that swings."
    caption(page, 1).fill("")
    caption(page, 1).focus()
    for number, word in enumerate(text.split(" ")):
        page.keyboard.type(word if number == 0 else f" {word}")
        operate(other, op="title", text=f"title {number}")
    expect(page.locator("input.title")).to_have_value(f"title {number}")
    expect(caption(page, 1)).to_have_value(text)
    expect(caption(other, 1)).to_have_value(text)


def test_a_dragged_cut_snaps_to_latent_frames_and_is_undone(page):
    expect(cut(page)).to_have_attribute("aria-valuenow", "4")
    strip, handle = page.locator(".strip-cuts").last.bounding_box(), cut(page).bounding_box()
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + strip["width"] * 0.17, y, steps=4)
    held = int(cut(page).get_attribute("aria-valuenow"))
    assert held > 4, "it follows the hand before it is let go of"
    page.mouse.up()
    expect(page.locator(".cut.held")).to_have_count(0)
    expect(cut(page)).to_have_attribute("aria-valuenow", str(held))
    expect(cut(page)).to_have_attribute("aria-valuetext", f"{(4 * held - 3) / 15:.1f} s, frame {4 * held - 3}")
    expect(page.locator("holo-captions .length").first).to_have_text(f"{(4 * held - 3) / 15:.1f} s")
    page.locator(".strip .shot").first.focus()
    page.keyboard.press("Control+z")
    expect(cut(page)).to_have_attribute("aria-valuenow", "4")


def test_a_cut_is_moved_by_keys_and_stops_at_its_neighbours(page):
    cut(page).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(cut(page)).to_have_attribute("aria-valuenow", "6")
    expect(page.locator(".look-error")).to_be_hidden()
    page.keyboard.press("End")
    expect(cut(page)).to_have_attribute("aria-valuenow", "7")
    page.keyboard.press("ArrowRight")
    expect(cut(page)).to_have_attribute("aria-valuenow", "7")
    cut(page, 1).focus()
    page.keyboard.press("Shift+ArrowRight")
    expect(page.locator("holo-timeline .facts")).to_contain_text("45 frames")
    expect(page.locator("holo-captions .length").nth(1)).to_have_text("1.3 s")


def test_shots_are_added_split_moved_and_removed_by_keys(page):
    shots = page.locator(".strip .shot")
    shots.first.focus()
    page.keyboard.press("Alt+ArrowRight")
    expect(caption(page, 0)).to_have_value(CAPTIONS[1])
    expect(shots.nth(1)).to_be_focused()
    page.keyboard.press("s")
    expect(shots).to_have_count(3)
    shots.nth(1).focus()
    page.keyboard.press("Insert")
    expect(shots).to_have_count(4)
    shots.nth(3).focus()
    page.keyboard.press("Delete")
    expect(shots).to_have_count(3)
    page.locator("#notes").get_by_role("button", name="Undo").click()
    expect(shots).to_have_count(4)


def test_a_shot_is_dragged_to_another_place(page):
    first, second = (page.locator(".strip .shot").nth(number).bounding_box() for number in (0, 1))
    page.mouse.move(first["x"] + 40, first["y"] + 40)
    page.mouse.down()
    page.mouse.move(second["x"] + second["width"] * 0.9, second["y"] + 40, steps=5)
    expect(page.locator(".drop-mark")).to_be_visible()
    page.mouse.up()
    expect(caption(page, 0)).to_have_value(CAPTIONS[1])


def test_findings_stand_beside_their_shot_and_tokens_are_counted(page):
    expect(page.locator(".token-words")).to_contain_text("of 512 tokens")
    caption(page, 1).fill("Close-up of [character7].")
    cards = page.locator(".shot-card")
    expect(cards.nth(1).locator(".findings")).to_contain_text("[character7]")
    expect(cards.nth(0).locator(".findings")).to_be_hidden()
    caption(page, 1).fill("")
    expect(page.locator(".look-error")).not_to_be_empty()


def test_a_chip_puts_its_character_where_the_cursor_was(page):
    caption(page, 0).focus()
    page.keyboard.press("Control+Home")
    page.locator(".chip").nth(1).click()
    expect(caption(page, 0)).to_have_value(f"[character2] {CAPTIONS[0]}")
    expect(caption(page, 0)).to_be_focused()


def test_a_picture_begins_a_shot_and_is_taken_away(page, tmp_path):
    from PIL import Image

    file = tmp_path / "first <frame>.png"
    Image.new("RGB", (64, 48), (200, 40, 40)).save(file)
    card = page.locator(".shot-card").first
    card.locator("input[type=file]").set_input_files(file)
    expect(card.locator("figcaption")).to_contain_text("first <frame>.png")
    expect(card.locator("figure img")).to_have_js_property("naturalWidth", 64)
    card.get_by_role("button", name="Take first <frame>.png away").click()
    expect(card.locator("figure")).to_be_hidden()


def test_a_storyboard_is_saved_under_its_name_and_opened_again(page):
    page.get_by_role("button", name="Save (Ctrl+S)").click()
    page.get_by_role("dialog").get_by_label("Name").fill("shapes")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.locator(".file")).to_have_text("shapes.toml")
    expect(page.get_by_role("dialog")).to_have_count(0)
    caption(page, 0).fill("Something else.")
    expect(page.locator(".file")).to_have_text("shapes.toml · changed")
    page.get_by_role("button", name="Open a storyboard").click()
    page.get_by_role("button", name="Go on without saving").click()
    page.get_by_role("dialog").get_by_role("button", name="shapes").click()
    expect(caption(page, 0)).to_have_value(CAPTIONS[0])


def test_eight_tabs_share_one_stream(tabs, page):
    others = [tabs.open() for _ in range(7)]
    caption(page, 0).fill("Eight see this.")
    for other in others:
        expect(caption(other, 0)).to_have_value("Eight see this.")


def test_text_typed_while_the_server_is_away_is_sent_when_it_is_back(studio, page):
    studio.kill()
    expect(page.locator(".link")).to_have_attribute("data-link", "down")
    caption(page, 0).fill("Typed to nobody.")
    expect(page.locator(".link")).to_contain_text("what you typed is kept")
    studio.start()
    expect(page.locator(".link")).to_have_attribute("data-link", "up")
    expect(page.locator(".strip .shot").first).to_contain_text("Typed to nobody.")
    assert "Typed to nobody." in toml(page)


def test_a_film_is_made_through_a_reload_and_a_killed_server(studio, tabs, page):
    for name, value in LONGER.items():
        operate(page, op="option", name=name, value=value)
    page.get_by_role("button", name="Make it").click()
    picture, shots = page.locator(".job img").first, page.locator(".strip .shot")
    expect(picture).to_have_attribute("src", PREVIEW, timeout=RUN)
    for number in range(2):
        expect(shots.nth(number).locator("img")).to_have_attribute("src", re.compile(rf"preview-\d+/{number + 1}$"))
        expect(shots.nth(number).locator(".shot-coming")).to_be_visible()
    before, estimate = picture.get_attribute("src"), shots.first.locator("img").get_attribute("src")
    page.reload()
    expect(picture).to_have_attribute("src", PREVIEW)
    expect(picture).not_to_have_attribute("src", before, timeout=RUN)
    expect(shots.first.locator("img")).not_to_have_attribute("src", estimate, timeout=RUN)
    expect(shots.first.locator("img")).to_have_js_property("naturalWidth", SHEET)  # whichever estimate it is by now
    other = tabs.open()
    expect(other.locator(".job-state").first).to_have_text(page.locator(".job-state").first.inner_text())
    studio.kill()
    expect(page.locator(".link")).to_have_attribute("data-link", "down")
    studio.start()
    for tab in (page, other):
        expect(tab.locator(".job").first).to_have_attribute("data-state", "done", timeout=RUN)
        expect(tab.locator("nav.views .count")).to_have_text("1")
        expect(tab.locator(".strip .shot.pictured")).to_have_count(2)
    still = page.locator(".strip .shot img").first
    expect(still).to_have_attribute("src", re.compile("/gallery/.*/shot-1"))
    expect(page.locator(".shot-coming:visible")).to_have_count(0)
    expect(still).to_have_js_property("naturalWidth", LONGER["width"])
    caption(page, 0).fill("Something that was never made.")
    expect(page.locator(".strip .shot.pictured")).to_have_count(1)


def test_a_film_is_played_scrubbed_and_a_shot_of_it_made_again(page):
    if page.locator("nav.views .count").inner_text() == "":
        page.get_by_role("button", name="Make it").click()
    page.get_by_role("link", name="Films").click()
    expect(page.locator(".film-card")).to_have_count(1, timeout=RUN)
    parts = []
    page.on("response", lambda answer: parts.append(answer.status) if "/video" in answer.url else None)
    page.locator(".poster").click()
    expect(page.locator(".shot-list img")).to_have_count(2)
    film = page.locator("dialog video")
    film.evaluate(f"video => video.readyState >= 1 || {soon('loadedmetadata')}")
    page.locator(".shot-list button").nth(2).click()
    film.evaluate(f"video => !video.seeking || {soon('seeked')}")
    assert int(film.evaluate("video => video.currentTime") * 15 + 0.01) == 13, "the first frame of the second shot"
    assert set(parts) == {206}, "parts of the file are asked for, so that one need not wait for all of it"
    expect(page.locator(".shot-list li").nth(1)).to_have_attribute("aria-current", "true")
    page.get_by_role("button", name="Retake shot 2").click()
    page.get_by_label("Caption of shot 2").fill("Wide shot of [character2].")
    page.get_by_role("button", name="Make the retake").click()
    expect(page.locator(".film-card")).to_have_count(2, timeout=RUN)


def test_the_page_asks_nobody_but_its_own_server(tabs, page):
    page.get_by_role("link", name="Films").click()
    page.get_by_role("link", name="Storyboard", exact=True).click()
    own = page.url.split("#")[0]
    assert tabs.asked
    assert "token" not in tabs.open().url
    assert [url for url in tabs.asked if not url.startswith((own, "blob:"))] == []
