"""Storyboard files: what is written is read back, every fault names its file, and the examples work."""

import json
from pathlib import Path

import pytest
from hypothesis import given, reject, strategies as st

from holo_lite.errors import StoryboardError
from holo_lite.story.files import as_storyboard, dump_toml, load_storyboard, parse_json, parse_toml
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.story.timeline import resolve_timeline

EXAMPLES = sorted((Path(__file__).parents[2] / "storyboards").iterdir())
SHOT = "[[shot]]\ncaption = 'c'\n"

text = st.text(st.characters(codec="utf-8"))
caption = st.text(st.characters(codec="utf-8"), min_size=1)
whole = st.integers(-(2**63), 2**63 - 1)
number = st.floats(-1e299, 1e299)
settings = {
    "frames": whole, "height": whole, "width": whole, "steps": whole, "seed": whole,
    "fps": number, "cfg": number, "title": text, "negative": text,
    "cuts": st.lists(whole, max_size=4).map(tuple),
}  # fmt: skip
optional = st.fixed_dictionaries({}, optional=settings)
shots = st.lists(st.builds(Shot, caption, st.none() | whole, st.none() | number), min_size=1, max_size=5)


def one_line(action):
    with pytest.raises(StoryboardError) as caught:
        action()
    message = str(caught.value)
    assert message.splitlines() == [message]
    return message


def well_formed(*parts, **keys):
    try:
        return Storyboard(*parts, **keys)
    except StoryboardError:
        reject()


@given(caption, shots, optional)
def test_any_storyboard_survives_being_written(scene, shots, keys):
    storyboard = well_formed(scene, tuple(shots), **keys)
    assert parse_toml(dump_toml(storyboard), "x.toml") == storyboard


@given(caption, optional)
def test_any_whole_prompt_survives_being_written(raw, keys):
    storyboard = well_formed(None, (), raw=raw, **keys)
    assert parse_toml(dump_toml(storyboard), "x.toml") == storyboard


@pytest.mark.parametrize(
    "nasty", ['"', "\\", "\\n", "'''", '"""', "\r\n", "\t\x00\x1b\x7f\x85\u2028", "🦊\U000e0001"]
)
def test_quotes_backslashes_and_control_characters_are_escaped(nasty):
    storyboard = Storyboard(f"G{nasty}", (Shot(f"a{nasty}b"),), title=nasty)
    written = dump_toml(storyboard)
    assert parse_toml(written, "x.toml") == storyboard
    assert len(written.splitlines()) == 5  # title, global, a blank line, [[shot]], caption


def test_json_and_toml_describe_the_same_storyboard():
    values = {"global": "G", "cuts": [49], "cfg": 5, "shot": [{"caption": "a"}, {"caption": "b"}]}
    expected = Storyboard("G", (Shot("a"), Shot("b")), cuts=(49,), cfg=5.0)
    assert parse_json(json.dumps(values), "x.json") == expected
    assert parse_toml(dump_toml(expected), "x.toml") == expected


def test_shots_is_another_word_for_shot():
    assert parse_toml("global='G'\n[[shots]]\ncaption='a'", "x").shot_count == 1
    assert parse_json('{"global": "G", "shots": [{"caption": "a"}]}', "x").shot_count == 1


# --- the five examples -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_load_resolve_and_survive_being_written(path):
    storyboard = load_storyboard(path)
    timeline = resolve_timeline(storyboard, default_frames=241, fps=storyboard.fps or 15)
    assert len(timeline.cuts) == storyboard.shot_count - 1
    assert len(storyboard.prompt.split()) < 350  # well below the 512 tokens
    assert parse_toml(dump_toml(storyboard), "x.toml") == storyboard


def test_examples_cover_one_to_thirteen_shots():
    counts = {load_storyboard(path).shot_count for path in EXAMPLES}
    assert {1, 13} <= counts
    assert len(counts) >= 5


def test_documented_example_shows_every_key():
    shown = (EXAMPLES[0].parent / "lighthouse.toml").read_text(encoding="utf-8")
    keys = "title global cuts frames height width fps steps cfg seed negative caption seconds"
    assert [key for key in keys.split() if f"{key} = " not in shown.replace("  ", " ")] == []


# --- files and prompts -----------------------------------------------------------------------------


@pytest.mark.parametrize("raw", ["a fox in snow", "[global caption]G", "[global caption] G [per shot caption] a"])
def test_words_that_are_no_file_are_a_prompt(raw):
    assert load_storyboard(f" {raw}\n") == Storyboard(None, (), raw=raw)


def test_a_prompt_too_long_for_a_file_name_is_a_prompt():
    assert load_storyboard("fox " * 4000).shot_count == 1


def test_a_file_named_with_spaces_is_a_file(tmp_path):
    path = tmp_path / "a fox.txt"
    path.write_text("[global caption] G [per shot caption] a [shot cut] b\n")
    assert load_storyboard(str(path)).shot_captions() == ["a", "b"]


def test_byte_order_mark_and_upper_case_suffix_are_accepted(tmp_path):
    path = tmp_path / "x.TOML"
    path.write_bytes(b"\xef\xbb\xbf" + f"global='Gr\u00fcn'\n{SHOT}".encode())
    assert load_storyboard(path).global_caption == "Grün"


@pytest.mark.parametrize(
    ("name", "content", "fragment"),
    [
        ("x.toml", b"", "empty"),
        ("x.txt", b" \n", "empty"),
        ("x.json", b"\xef\xbb\xbf", "empty"),
        ("x.toml", b"global = 'G\xff'", "not UTF-8"),
        ("x.txt", "[shot cut] a".encode("utf-16"), "not UTF-8"),
        ("x.md", b"text", "not a storyboard"),
        ("x.txt", b"a [shot cut] b", "[global caption]"),
        ("x.toml", b"global = 'G'\n\ncuts = [49,,]", "line 3"),
        ("x.toml", b"global = 'G'\nglobal = 'H'\n", "line 2"),
        ("x.json", b'{\n"global": }', "line 2"),
        ("x.json", b'{"global": "G", "global": "H"}', "'global' is given twice"),
        ("x.json", b"[" * 100_000, "not valid JSON"),
        ("x.json", b'{"seed": 1' + b"0" * 5000 + b"}", "not valid JSON"),
        ("x.json", b'["a"]', "must be a table"),
        ("x.json", b"null", "must be a table"),
    ],
)
def test_unreadable_files_are_told_by_name(tmp_path, name, content, fragment):
    path = tmp_path / name
    path.write_bytes(content)
    message = one_line(lambda: load_storyboard(path))
    assert message.startswith(f"{path}: ")
    assert fragment in message


def test_missing_file_directory_and_stray_word_are_told(tmp_path):
    assert "no such file" in one_line(lambda: load_storyboard(tmp_path / "x.toml"))
    assert "no such file" in one_line(lambda: load_storyboard("my scene.toml"))
    assert "this is a folder" in one_line(lambda: load_storyboard(str(tmp_path)))
    assert "write a prompt" in one_line(lambda: load_storyboard("a/fox"))
    one_line(lambda: load_storyboard(""))
    one_line(lambda: load_storyboard("\0.toml"))
    one_line(lambda: load_storyboard(Path("x" * 5000 + ".toml")))


def test_a_file_name_with_a_line_break_stays_one_line(tmp_path):
    one_line(lambda: load_storyboard(tmp_path / "a\nb.toml"))


# --- keys and types --------------------------------------------------------------------------------

TOML_FAULTS = {
    "glbal='G'\n" + SHOT: "unknown key 'glbal'; did you mean 'global'?",
    "global='G'\nzzzz=1\n" + SHOT: "the keys are title, prompt",
    "global='G'\n'two\\nlines'=1\n\"a\\nb\"=2\n" + SHOT: "unknown key",
    "guidance_scale=5\nglobal='G'\n" + SHOT: "unknown key 'guidance_scale'; here it is cfg",
    "size='832x480'\nglobal='G'\n" + SHOT: "unknown key 'size'; here it is width and height",
    "global='G'\n" + SHOT + "second=1": "unknown key 'second' of shot 1; did you mean 'seconds'?",
    "global='G'\n" + SHOT * 2 + "cuts=[49]": "'cuts' is inside shot 2; move it above the first shot",
    "global='G'\n" + SHOT + "[[shot]]\nframes=9": "shot 2 has no caption",
    "global='G'\n" + SHOT + "[[shot]]\ncaption=' '": "shot 2 has an empty caption",
    "global='G'": "no shots",
    SHOT: "no global caption",
    "prompt='a'\n" + SHOT: "keep one",
    "prompt='a'\nglobal='G'": "keep one",
    "global='G'\nshot='a'": "'shot' must be a list of shots",
    "global='G'\nshot=['a']": "shot 1 must be a table",
    "global='G'\n[shot]\ncaption='a'": "'shot' must be a list of shots ([[shot]] in TOML), not a table",
    "global='G'\n" + SHOT + "[[shots]]\ncaption='a'": "both 'shot' and 'shots'",
    "global=1\n" + SHOT: "'global' must be a text in quotes, not a whole number",
    "title=1979-05-27\n": "not a date",
    "global='G'\n[[shot]]\ncaption=['a']": "'caption' of shot 1 must be a text",
    "frames='81'": "'frames' must be a whole number, not a text",
    "frames=81.0": "'frames' must be a whole number",
    "seed=true": "'seed' must be a whole number, not true or false",
    "global='G'\n" + SHOT + "frames=false": "'frames' of shot 1 must be a whole number",
    "global='G'\n" + SHOT + "seconds='3'": "'seconds' of shot 1 must be a number",
    "global='G'\n" + SHOT + "seconds=nan": "'seconds' of shot 1 must be a finite number",
    "cfg=inf": "'cfg' must be a finite number",
    "cfg=true": "'cfg' must be a number",
    "fps=1" + "0" * 400: "a number out of range at $.fps",
    "cuts=49": "'cuts' must be a list of whole numbers",
    "cuts=[49, 97.0]": "each of 'cuts' must be a whole number",
    "cuts=[49, true]": "each of 'cuts' must be a whole number",
}


@pytest.mark.parametrize(("content", "fragment"), TOML_FAULTS.items(), ids=list(TOML_FAULTS.values()))
def test_wrong_keys_and_types_are_told_with_the_file(content, fragment):
    message = one_line(lambda: parse_toml(content, "night.toml"))
    assert message.startswith("night.toml: ")
    assert fragment in message


def test_json_null_and_half_characters_are_told():
    null = '{"global": null, "shot": [{"caption": "a"}]}'
    assert "'global' must be a text in quotes, not null" in one_line(lambda: parse_json(null, "x.json"))
    half = r'{"global": "G", "shot": [{"caption": "a \ud800"}]}'
    assert "half of a character" in one_line(lambda: parse_json(half, "x.json"))
    nan = '{"global": "G", "cfg": NaN, "shot": [{"caption": "a"}]}'
    assert "finite" in one_line(lambda: parse_json(nan, "x.json"))


@given(st.text(max_size=60))
def test_no_text_breaks_the_readers(content):
    for parse in (parse_toml, parse_json):
        try:
            parse(content, "x")
        except StoryboardError as error:
            lines = str(error).splitlines()
            assert len(lines) == 1


@pytest.mark.parametrize(
    "prompt",
    [
        "一个穿黄色雨衣的男人走在海边的路上。",
        "黄色いレインコートを着た男が海辺の道を歩いている。",
        "ชายสวมเสื้อกันฝนสีเหลือง",
        "lighthouse",
    ],
)
def test_a_prompt_needs_no_spaces(prompt):
    assert load_storyboard(prompt).prompt == prompt


@pytest.mark.parametrize("name", ["boards/a", "a.tml", "镜头.toml", ".hidden", "..", "C:\\a", "board"])
def test_what_looks_like_a_file_is_no_prompt(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "board.toml").touch()
    with pytest.raises(StoryboardError):
        load_storyboard(name)


# --- from Python -----------------------------------------------------------------------------------


def test_a_storyboard_a_prompt_and_a_path_are_taken_alike(tmp_path):
    board = Storyboard(None, (), raw="a fox in the snow")
    file = tmp_path / "fox.toml"
    file.write_text(dump_toml(board))
    assert as_storyboard(board) is board
    assert board == as_storyboard("a fox in the snow") == as_storyboard(file) == as_storyboard(str(file))


@pytest.mark.parametrize("given", [None, 5, ["a fox"], b"a fox"])
def test_anything_else_is_no_storyboard(given):
    message = one_line(lambda: as_storyboard(given))
    assert message.startswith("storyboard: give a Storyboard, a prompt or the path of a file, not ")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Shot(5), "caption: give a text, not 5"),
        (lambda: Storyboard("a", ["b"]), "shots: give shots such as Shot(\"A fox runs.\"), not 'b'"),
        (lambda: Storyboard("a", Shot("b"), fps="24"), "fps: give a number, not '24'"),
        (lambda: Storyboard(5, (Shot("b"),)), "global_caption: give a text, not 5"),
        (lambda: Storyboard("a", (Shot("b"),), cuts=5), "cuts: give whole numbers such as (49, 97), not 5"),
    ],
)
def test_a_value_of_another_type_is_named(make, message):
    assert one_line(make) == message
