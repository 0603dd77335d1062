"""What the page is to those who do not see it: names, what is read to them and when, and the keyboard's place."""

import pytest
from page_heard import KEPT, LISTEN, SETUP, film, tell, tree, wait_to_hear
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
    """The page with three shots, planned, and nothing over it."""
    page.evaluate("document.querySelectorAll('dialog').forEach(dialog => dialog.close())")
    address = page.url.split("#")[0] + "api/open"
    asked = {"text": STORYBOARD, "name": "shapes.toml"}
    assert page.request.post(address, data=asked, headers={"x-holo": "1"}).ok
    page.goto(page.url.split("#")[0] + "#board")
    expect(page.locator(".strip .shot")).to_have_count(3)
    expect(page.locator("holo-plan[data-state=fits]")).to_be_visible()
    return page


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


def about(page):
    """What a screen reader is told of the dialog that is open: its name, and what it is about."""
    expect(page.locator("dialog").last).to_be_visible()
    (said,) = [each for each in tree(page) if each["role"] == "dialog"]
    assert [each for each in tree(page) if each["role"] == "contentinfo"] == [], "the foot of a dialog is none"
    return said["name"], said["description"]


@pytest.fixture
def films(board):
    """The page of the films, on which there are three; nothing that is asked for is done."""
    board.evaluate(LISTEN)
    board.route("**/api/gallery/*/delete", lambda route: route.fulfill(json={}))
    tell(board, "gallery", [film(name) for name in ("one", "two", "three")])
    board.get_by_role("link", name="Films").press("Enter")
    expect(board.locator("#view-films")).to_be_focused()
    expect(board.locator(".film-card")).to_have_count(3)
    yield board
    board.unroute("**/api/gallery/*/delete")
    tell(board, "gallery", [])


def test_nothing_is_left_that_would_be_read_again_when_a_dialog_closes(board):
    board.evaluate(LISTEN)
    board.locator("holo-captions textarea").first.fill("Wide shot of [character9].")
    wait_to_hear(board, "Shot 1: ")
    expect(board.locator(".shot-card .findings").first).to_contain_text("[character9]")
    board.evaluate("import('/static/aloud.js').then(({ aloud }) => aloud('Here.'))")
    wait_to_hear(board, "Here.")
    board.get_by_role("button", name="Keys").press("Enter")
    assert "undo and redo" in about(board)[1]
    board.keyboard.press("Escape")
    expect(board.get_by_role("button", name="Keys")).to_be_focused()
    assert board.evaluate(KEPT) == []


def test_a_question_is_read_and_nothing_else_is_done(board):
    board.locator(".strip-cuts .cut").first.press("ArrowRight")
    expect(board.locator(".file")).to_be_visible()
    opener = board.get_by_role("button", name="Open a storyboard")
    opener.press("Enter")
    expect(board.locator("dialog .aloud")).to_contain_text("Not saved yet The storyboard on the page has changes")
    expect(board.get_by_role("button", name="Keep it")).to_be_focused()
    assert about(board)[0] == "Not saved yet"
    board.keyboard.press("Enter")
    expect(opener).to_be_focused()


def test_what_takes_the_place_of_the_storyboard_is_told_of(board):
    board.evaluate(LISTEN)
    board.locator(".strip-cuts .cut").first.press("ArrowRight")
    expect(board.get_by_role("button", name="Undo (Ctrl+Z)")).to_be_enabled()
    for key, said in (("z", "Undone."), ("y", "Redone."), ("y", "There is nothing to redo.")):
        board.locator(".strip .shot").first.press(f"Control+{key}")
        wait_to_hear(board, said)
    board.get_by_role("button", name="New storyboard").press("Enter")
    board.get_by_role("button", name="Go on without saving").press("Enter")
    wait_to_hear(board, "A new storyboard is on the page.")


def test_a_retake_and_a_continuation_say_what_they_do(films):
    films.locator(".poster").first.press("Enter")
    films.get_by_role("button", name="Retake shot 2").press("Enter")
    expect(films.get_by_label("Caption of shot 2")).to_be_focused()
    assert about(films)[1].startswith("The chosen shots are made again")
    (seed,) = [each for each in tree(films) if each["role"] == "spinbutton" and each["name"] == "Seed"]
    assert seed["description"] == "Left empty, it is another one"
    films.get_by_role("checkbox", name="Shot 2").press("Space")
    act = films.get_by_role("button", name="Make the retake")
    act.press("Enter")
    wait_to_hear(films, "Choose a shot to make again.")
    expect(act).to_be_focused()
    films.keyboard.press("Escape")
    expect(films.get_by_role("button", name="Retake shot 2")).to_be_focused()
    films.get_by_role("button", name="Go on from here").press("Enter")
    assert "Wide shot of [character1]." in about(films)[1], "what the next shots are"
    films.keyboard.press("Escape")
    films.get_by_role("button", name="Contact sheet").press("Enter")
    expect(films.get_by_role("heading", name="Contact sheet of one.mp4")).to_be_visible()
    films.keyboard.press("Escape")
    films.keyboard.press("Escape")
    expect(films.locator(".poster").first).to_be_focused()


def test_a_film_that_is_deleted_leaves_the_place_to_another(films):
    films.locator(".poster").first.press("Enter")
    films.get_by_role("button", name="Delete").press("Enter")
    wait_to_hear(films, "Delete one.mp4? The film goes to the trash")
    tell(films, "gallery", [film("two"), film("three")])
    films.locator("dialog.question").get_by_role("button", name="Delete").press("Enter")
    wait_to_hear(films, "one.mp4 is in the trash.")
    expect(films.get_by_role("dialog")).to_have_count(0)
    expect(films.locator(".poster").first).to_be_focused()


def test_two_films_are_chosen_and_gone_through_by_ear(films):
    for number, said in enumerate(("Choose one more", "press Compare two", "Two are chosen already")):
        films.locator(".pick input").nth(number).press("Space")
        wait_to_hear(films, said)
    films.get_by_role("button", name="Compare two").press("Enter")
    slider = films.get_by_role("slider", name="Place in both films")
    expect(slider).to_have_attribute("aria-valuetext", "0.00 of 1.9 s")
    slider.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", "0.07 of 1.9 s")
    films.keyboard.press("Escape")
    expect(films.get_by_role("button", name="Compare two")).to_be_focused()


def test_pictures_that_come_and_go_are_told_of(board, tmp_path):
    from PIL import Image

    board.evaluate(LISTEN)
    file = tmp_path / "red.png"
    Image.new("RGB", (64, 48), (200, 40, 40)).save(file)
    for place, said in ((".shot-card", "Shot 1 begins with red.png."), (".references", "red.png is a reference")):
        board.locator(f"{place} input[type=file]").first.set_input_files(file)
        wait_to_hear(board, said)
        board.locator(place).first.get_by_role("button", name="Take red.png away").press("Enter")
        board.wait_for_function("() => window.heard.at(-1).includes('The picture is taken away.')")
        assert board.evaluate("place => document.activeElement.closest(place) !== null", place)


def test_a_setting_that_is_not_taken_is_said_and_a_size_changes_once(board):
    board.evaluate(LISTEN)
    board.locator(".settings summary").press("Enter")
    board.get_by_role("spinbutton", name="Kappa").press_sequentially("5")
    board.keyboard.press("Tab")
    wait_to_hear(board, "Kappa: ")
    board.evaluate(SETUP, {"adapters": [{"id": name, "name": name} for name in ("grain", "ink")]})
    expect(board.get_by_role("group", name="ink").get_by_role("combobox", name="Which expert")).to_be_visible()
    board.evaluate(SETUP, {"adapters": []})
    board.locator(".settings summary").press("Enter")
    size = board.get_by_role("combobox", name="Size")
    sizes = size.evaluate("select => [...select.options].map(({ value }) => value)")
    size.evaluate("""select => { window.shown = [];
      new MutationObserver(() => window.shown.push(...[...select.options].map(({ value }) => value)))
        .observe(select, { subtree: true, childList: true }); }""")
    size.press("ArrowDown")
    _, height = size.input_value().split("x")
    expect(board.get_by_role("spinbutton", name="Height", include_hidden=True)).to_have_value(height)
    assert set(board.evaluate("window.shown")) <= set(sizes), "no size between the two, which a reader would read"


def test_the_first_run_tells_what_it_does_once(board):
    board.evaluate(LISTEN)
    board.route("**/api/setup/doctor", lambda route: route.fulfill(json={}))
    look = board.locator(".doctor > button").last
    look.press("Enter")
    wait_to_hear(board, "Looking, for a minute or so …")
    expect(look).to_be_focused()
    found = [("ok", "Python: 3.11", None), ("trouble", "card: none", "`buy one`"), ("ok", "disk: 1 TB", None)]
    doctor = [dict(zip(("level", "text", "help"), each, strict=True)) for each in found]
    board.evaluate(SETUP, {"doctor": doctor})
    wait_to_hear(board, "3 things looked at, to be mended:, card: none. `buy one`")
    fetch = {"what": "Model", "licence": "for research", "bytes": 66e9, "why": None, "left": None, "total": 66e9}
    for state, done in (("asking", None), ("offered", None), ("fetching", 1e9), ("fetching", 60e9), ("done", None)):
        board.evaluate(SETUP, {"fetch": {**fetch, "state": state, "done": done}})
    wait_to_hear(board, "Model: It is here")
    heard = " ".join(board.evaluate("window.heard"))
    assert "agree to its licence" in heard
    assert "60 GB of 66 GB" not in heard, "a quarter that comes so soon is not said"
    board.unroute("**/api/setup/doctor")
    board.evaluate(SETUP, {"doctor": None, "fetch": None})


def test_the_queue_says_that_it_is_held_and_its_jobs_have_names(board):
    board.evaluate(LISTEN)
    address = board.url.split("#")[0] + "api/queue"
    assert board.request.post(address, data={"held": True}, headers={"x-holo": "1"}).ok
    board.locator(".queue .hold").press("Enter")
    wait_to_hear(board, "The queue goes on.")
    size = {"width": 64, "height": 48, "frames": 29, "fps": 15, "made": None}
    far = {"phase": "denoise", "done": 1, "total": 4, "unit": "steps", "share": 0.2, "left": 9, "elapsed": 1}
    none = dict.fromkeys(("why", "preview", "memory", "waited", "video", "sheet"))
    job = {"id": "j", "title": "A film", "kind": "full", "state": "running", "notes": [], "shots": [], "seeds": []}
    for done in range(1, 5):
        tell(board, "job", {**job, **size, **none, **far, "done": done})
    wait_to_hear(board, "A film: Drawing, step 1 of 4")
    assert board.get_by_role("group", name="Film: A film").get_by_role("button", name="Pause").is_visible()
    assert "step 2 of 4" not in " ".join(board.evaluate("window.heard")), "what goes by so fast is a chatter"
    tell(board, "job_gone", {"id": "j"})


def test_nobody_is_told_of_the_page_before_it_is_there(page):
    """Choices that a browser has met in a part that was not to be seen are not read by some screen readers."""
    shown = "document.body.classList.toggle('ready'); getComputedStyle(document.querySelector('main')).display"
    assert page.evaluate(shown) == "none"
    assert page.evaluate(shown) == "block"
