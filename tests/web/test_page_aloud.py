"""What the page is to those who do not see it: names, what is read to them and when, and the keyboard's place."""

import pytest
from studio_process import CHROMIUM, PLAYWRIGHT, chromium, running_studio

pytest.importorskip("playwright", reason=PLAYWRIGHT)

from playwright.sync_api import expect, sync_playwright

WAIT = 120_000  # milliseconds; a guard against hanging on a machine that does other things
STORYBOARD = """
global = "A dark blue room. [character1] is a red circle."
frames = 61
cuts = [21, 41]
[[shot]]
caption = "Wide shot of [character1]."
[[shot]]
caption = "Close-up of [character1]."
[[shot]]
caption = "Medium shot of [character1]."
"""
PRESSED = {"button", "link", "textbox", "spinbutton", "combobox", "slider", "checkbox", "video"}
# Every text that a screen reader is handed unasked, from now on.
LISTEN = """() => {
  window.heard = [];
  const live = "[aria-live], [role=status], [role=alert], output";
  new MutationObserver(changes => changes.forEach(({ target }) => {
    const place = (target.nodeType === 1 ? target : target.parentElement)?.closest(live);
    if (place) window.heard.push(place.textContent);
  })).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""
AT = "document.activeElement.closest('[data-key]')?.dataset.key"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    program = chromium() or pytest.skip(CHROMIUM)
    with running_studio(tmp_path_factory.mktemp("aloud")) as studio, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        found = browser.new_page()
        found.set_default_timeout(WAIT)
        expect.set_options(timeout=WAIT)
        found.goto(studio.link)
        found.wait_for_selector("body.ready")
        yield found
        browser.close()


@pytest.fixture
def board(page):
    """The page with three shots, planned."""
    address = page.url.split("#")[0] + "api/open"
    asked = {"text": STORYBOARD, "name": "shapes.toml"}
    assert page.request.post(address, data=asked, headers={"x-holo": "1"}).ok
    page.goto(page.url.split("#")[0] + "#board")
    expect(page.locator(".strip .shot")).to_have_count(3)
    expect(page.locator("holo-plan[data-state=fits]")).to_be_visible()
    return page


def tree(page):
    """Every node that a screen reader is told of: its role, its name, and its description."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    said = (
        {name: node.get(name, {}).get("value", "") for name in ("role", "name", "description")} for node in nodes
    )
    return [each for node, each in zip(nodes, said, strict=True) if not node["ignored"]]


def wait_to_hear(page, text):
    page.wait_for_function("text => window.heard.some(heard => heard.includes(text))", arg=text)


def test_all_that_can_be_pressed_has_a_name(board):
    def check():
        found = [each for each in tree(board) if each["role"].lower() in PRESSED]
        assert found
        assert [each for each in found if not each["name"].strip()] == []
        assert sum(each["role"] == "banner" for each in tree(board)) <= 1, "the head of a dialog is none"

    check()
    for name in ("Keys", "Open a storyboard", "not saved: save under another name"):
        if name.startswith("not saved"):
            board.locator(".strip-cuts .cut").first.press("ArrowRight")  # a change to save
        board.get_by_role("button", name=name).click()
        expect(board.locator("dialog")).to_be_visible()
        check()
        board.keyboard.press("Escape")
    board.goto(board.url.split("#")[0] + "#films")
    expect(board.get_by_role("heading", name="Films")).to_be_visible()
    check()


def test_an_empty_number_is_not_told_as_nought_alone(board):
    told = {each["name"]: each["description"] for each in tree(board) if each["role"] == "spinbutton"}
    assert told["Steps"].startswith("Empty, so ")
    assert told["Seed"] == "The same seed and settings give the same film. Empty, so default"


def test_what_changes_with_every_key_is_not_read_with_every_key(board):
    board.evaluate(LISTEN)
    for _ in range(3):
        board.locator(".strip-cuts .cut").first.press("ArrowRight")
    board.locator("holo-captions textarea").nth(1).press_sequentially(", far away")
    expect(board.locator("holo-captions .length").first).to_have_text("2.2 s")
    expect(board.locator("holo-plan[data-state=working]")).to_have_count(0)
    assert board.evaluate("window.heard") == []
    board.get_by_role("group", name="Length of shot 1").get_by_role("button", name="Longer").press("Enter")
    wait_to_hear(board, "Shot 1: 37 frames")


def test_what_was_done_to_a_shot_is_read(board):
    board.evaluate(LISTEN)
    board.locator(".strip .shot").first.focus()
    for key, said in (
        ("Alt+ArrowRight", "Shot 1 is now shot 2."),
        ("s", "Shot 2 is now two shots."),
        ("Insert", "Shot 3 is new."),
    ):
        board.keyboard.press(key)
        wait_to_hear(board, said)


def test_in_a_dialog_it_is_read_within_it(board):
    board.get_by_role("button", name="Keys").click()
    expect(board.get_by_role("dialog")).to_be_visible()
    board.evaluate("import('/static/aloud.js').then(({ aloud }) => aloud('Here.'))")
    expect(board.locator("dialog .aloud")).to_have_text("Here.")
    board.keyboard.press("Escape")
    expect(board.get_by_role("dialog")).to_have_count(0)


def test_the_keyboard_keeps_its_place_where_what_it_was_at_goes_away(board):
    shots = board.locator(".strip .shot")
    keys = [shots.nth(index).get_attribute("data-key") for index in range(3)]
    shots.nth(1).press("Delete")
    expect(shots).to_have_count(2)
    assert board.evaluate(AT) == keys[2], "the next one"
    shots.nth(1).press("Delete")
    expect(shots).to_have_count(1)
    assert board.evaluate(AT) == keys[0], "or the one before"
    board.get_by_role("button", name="Undo (Ctrl+Z)").press("Enter")
    board.get_by_role("button", name="Undo (Ctrl+Z)").press("Enter")
    expect(shots).to_have_count(3)
    board.evaluate(LISTEN)
    board.locator("[data-tool=later]").nth(1).press("Enter")
    wait_to_hear(board, "Shot 2 is now shot 3.")
    expect(board.locator(f"article[data-key={keys[1]}]")).to_be_focused()
    board.locator("#make-draft").focus()
    board.evaluate("document.activeElement.hidden = true")
    expect(board.get_by_role("region", name="What it will take")).to_be_focused()
    board.evaluate("document.querySelector('#make-draft').hidden = false")


def test_a_place_that_somebody_left_is_not_gone_back_to(board):
    board.locator("#make-draft").focus()
    board.evaluate("document.activeElement.blur()")
    board.evaluate("document.querySelector('#make-draft').hidden = true")
    board.wait_for_timeout(50)
    assert board.evaluate("document.activeElement === document.body")
    board.evaluate("document.querySelector('#make-draft').hidden = false")
