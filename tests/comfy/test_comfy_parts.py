"""Parts of the nodes that need no ComfyUI: orders and their names, progress, storyboards, pixels."""

import io
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st
from PIL import Image

from holo_lite.comfy.frames import frames_of, image_of, png_of, preview_of
from holo_lite.comfy.handles import Film, Model, NodeError, Picture, Story
from holo_lite.comfy.orders import Places, Wishes, board_order, extend_order, file_stem, plan_order, retake_order
from holo_lite.comfy.progress import PHASES, WHOLE, RunShare
from holo_lite.comfy.stories import captions_of, fault_of, numbers_of, story_of, story_of_toml
from holo_lite.errors import HoloError
from holo_lite.story.files import parse_json
from holo_lite.worker.order import ORDER

BYTES = bytes(range(256)) * 3
BOARD = Story({"global": "A wall.", "shot": [{"caption": "Wide shot."}]})


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path / "out", tmp_path / "scratch")


def test_every_byte_comes_back_from_an_image_as_comfyui_saves_it(tmp_path):
    raw = tmp_path / "frames.rgb"
    raw.write_bytes(BYTES)
    frames = frames_of(raw, 8, 16)
    assert frames.shape == (2, 8, 16, 3)
    assert (frames.min(), frames.max()) == (0, 1)
    saved = (255.0 * frames.numpy()).clip(0, 255).astype("uint8")  # ComfyUI cuts the rest off
    assert saved.tobytes() == BYTES


def test_a_picture_goes_out_as_a_png_and_comes_in_again(tmp_path):
    pixels = torch.tensor(list(BYTES), dtype=torch.uint8).view(16, 16, 3).float() / 255
    file = tmp_path / "picture.png"
    file.write_bytes(png_of(pixels))
    assert torch.equal(image_of(file)[0], pixels)
    with Image.open(io.BytesIO(png_of(torch.zeros(4, 6, 4)))) as clear:
        assert (clear.mode, clear.size) == ("RGBA", (6, 4))
    (tmp_path / "half.png").write_bytes(file.read_bytes()[:90])
    assert preview_of(tmp_path / "half.png") is None
    assert preview_of(tmp_path / "none.png") is None


# --- orders ----------------------------------------------------------------------------------------


def test_orders_are_read_by_the_process_that_renders(places):
    wishes = Wishes({"seed": 3, "steps": 4}, every=2)
    film = Film(
        Path("/films/a.mp4"), Model("/models/nf4", {"profile": "6gb", "lora": {"low_noise": [("/a", 0.5)]}})
    )
    asked = [
        board_order(film.model, BOARD, wishes, places),
        retake_order(film, {2: None}, wishes, places),
        extend_order(film, BOARD, [1], wishes, places),
        plan_order(film.model, BOARD, wishes, places),
    ]
    for order in json.loads(json.dumps(asked)):
        found = ORDER.of_table(order)
        assert found.opening.profile == "6gb"
        assert found.options.steps == 4
        assert found.origin.unknown == ()


def test_what_decides_the_pixels_decides_the_name_and_nothing_else_does(places, tmp_path):
    def name(model=Model(), story=BOARD, options=(("seed", 3),), to=places, **more):  # noqa: B008 - frozen
        return Path(board_order(model, story, Wishes(dict(options), **more), to)["out"]).name

    other = Story({**BOARD.tree, "frames": 9})
    others = [
        name(Model("/models/nf4")),
        name(Model(opening={"profile": "cpu"})),
        name(Model(mark="changed")),
        name(story=other),
        name(options=(("seed", 4),)),
        name(draft=True),
        name(name="other"),
    ]
    assert len({name(), *others}) == len(others) + 1
    same = [
        name(every=0),
        name(Model(idle=5)),
        name(to=Places(tmp_path, tmp_path / "s")),
    ]
    assert set(same) == {name()}


@given(st.text(max_size=90))
def test_any_name_is_a_files_or_refused(name):
    try:
        stem = file_stem(name)
    except NodeError as error:
        refusal = str(error)
    else:
        refusal = ""
    assert len(refusal.splitlines()) <= 1
    if refusal:
        return
    assert Path(stem).name == stem
    assert stem[0] != "."
    assert len(stem) <= 60


# --- storyboards -----------------------------------------------------------------------------------


def test_captions_are_divided_by_an_empty_line():
    assert captions_of("one\ntwo\n\n \t\nthree\r\n\r\nfour\n") == ["one two", "three", "four"]
    with pytest.raises(NodeError, match="no caption"):
        captions_of("\n \n")


@given(st.text(max_size=20))
def test_numbers_are_read_or_refused(text):
    try:
        found = numbers_of("cuts", text)
    except NodeError:
        assert any(not word.strip().isdigit() or not word.isascii() for word in text.split(","))
        return
    assert ", ".join(map(str, found)) == ", ".join(
        word.strip().lstrip("0") or "0" for word in text.split(",") if text.strip()
    )


def test_pictures_begin_shots_or_are_references():
    pictures = [Picture(Path("/a.png"), shot=2), Picture(Path("/b.png"), caption="Close-up.")]
    story = story_of("A wall.", ["one", "two"], 9, "5", pictures)
    board = parse_json(json.dumps(story.tree), "it")
    assert [each.image for each in board.shots] == [None, "/a.png"]
    assert [each.image for each in board.references] == ["/b.png"]
    assert (board.frames, board.cuts) == (9, (5,))
    for wrong, word in ((Picture(Path("/a.png"), shot=3), "shot 3"), (Picture(Path("/b.png")), "caption")):
        with pytest.raises(NodeError, match=word):
            story_of("A wall.", ["one", "two"], 0, "", [wrong])


def test_a_toml_text_is_a_storyboard_with_pictures_in_a_folder(tmp_path):
    shot = '[[shot]]\ncaption = "one"\nimage = "a.png"'
    reference = '[[reference]]\nvideo = "/b.mp4#2"\ncaption = "two"'
    text = f'global = "A wall."\n{shot}\n{reference}'
    story = story_of_toml(text, tmp_path, [Picture(Path("/c.png"), caption="three")])
    board = parse_json(json.dumps(story.tree), "it")
    assert board.shots[0].image == str(tmp_path / "a.png")
    assert [each.video for each in board.references] == ["/b.mp4#2", None]
    assert [each.image for each in board.references] == [None, "/c.png"]


@given(st.text(max_size=60))
def test_any_text_is_toml_or_one_line_says_why(text):
    assert len(fault_of(text).splitlines()) <= 1


@pytest.mark.parametrize("text", ["shot = 3", "shot = [1, [2]]", 'reference = "a"', "shots = [{image = 3}]"])
def test_what_is_no_storyboard_is_left_to_the_process_to_refuse(text, tmp_path):
    story = story_of_toml(f'global = "g"\n{text}', tmp_path, [])
    with pytest.raises(HoloError):
        parse_json(json.dumps(story.tree), "it")


# --- progress --------------------------------------------------------------------------------------

work = st.fixed_dictionaries({name: st.floats(0, 1e15) for name in PHASES})


@given(work, st.lists(st.integers(0, 6), min_size=3, max_size=3))
def test_the_bar_never_goes_back_and_ends_full(work, totals):
    share, seen = RunShare(), []
    records = [{"kind": "resolved", "work": work}, {"kind": "phase", "phase": "load", "total": 9, "done": 0}]
    for phase, total, step in zip(PHASES, totals, ("step", "step", "frame"), strict=True):
        records.append({"kind": "phase", "phase": phase, "total": total, "done": 0})
        records += [{"kind": step, "done": done} for done in range(1, total + 1)]
    for record in records:
        share.take(record)
        seen.append(share.value)
    assert seen == sorted(seen)
    assert 0 <= seen[-1] <= WHOLE
    if totals[-1] and sum(work.values()) > 1:
        assert seen[-1] >= WHOLE - 1


def test_records_of_other_kinds_move_nothing():
    share = RunShare()
    assert not share.take({"kind": "note", "text": "hello"})
    assert share.value == 0
