"""What is made of an answer: a storyboard within bounds, or lines that say what is wrong."""

import json
import re

import pytest
from hypothesis import given, strategies as st

from holo_lite.story.files import dump_toml, parse_toml
from holo_lite.story.prompt import PER_SHOT_TAG, clean
from holo_lite.text.windows import PromptTokenizer
from holo_lite.writing.answer import LONGEST_ANSWER, form, read_answer
from holo_lite.writing.judging import judge
from holo_lite.writing.wanted import Wanted

WANTED = Wanted("a keeper loses the light", 2, 10)
SCENE = "A lighthouse at night. [character1] is a man in a yellow coat."
FIRST, SECOND = "Wide shot of [character1] on the rocks.", "Close-up of the dark lamp, [character1] behind it."


def answer(**changes):
    shots = [{"caption": FIRST, "seconds": 3}, {"caption": SECOND, "seconds": 7}]
    return {"title": "Dark", "global": SCENE, "shots": shots} | changes


def text(**changes):
    return json.dumps(answer(**changes))


def found(said, wanted=WANTED):
    """What is found in an answer from which no storyboard comes."""
    judged = judge(said, wanted, None)
    assert judged.written is None
    (line,) = judged.found
    assert len(line.splitlines()) == 1
    return line


def test_a_good_answer_becomes_a_storyboard_in_the_form_of_the_model():
    judged = judge(text(), WANTED, None)
    assert judged.found == ()
    board = judged.written.board
    assert board.prompt == (
        f"[global caption] {SCENE} This scene contains 2 shots. [per shot caption] {FIRST} [shot cut] {SECOND}"
    )
    assert [shot.frames for shot in board.shots] == [41, 108]
    assert judged.written.report.frames == WANTED.frames == 149
    assert parse_toml(dump_toml(board), "x") == board


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "\n\n{}\n",
        "```json\n{}\n```",
        "Here is the storyboard:\n{}\nTell me what to change.",
        '<think>First {{"global": 1}} comes to mind.</think>{}',
    ],
)
def test_the_object_is_found_in_what_stands_around_it(around):
    assert judge(around.format(text()), WANTED, None).found == ()


def test_seconds_may_be_missing_and_other_keys_are_dropped():
    shots = [{"caption": FIRST, "camera": "still"}, {"caption": SECOND, "seconds": 4, "image": "/etc/passwd"}]
    judged = judge(text(shots=shots, seed=5, negative="x", style={"a": [1]}), WANTED, None)
    assert judged.found == ()
    board = judged.written.board
    assert (board.seed, board.negative, board.shots[1].image) == (None, None, None)
    assert [shot.frames for shot in board.shots] == [73, 76]


def test_lines_and_tabs_in_captions_become_spaces():
    judged = judge(text(**{"global": "A lighthouse.\n\n\t[character1] is\r\na man."}), WANTED, None)
    assert judged.written.board.global_caption == "A lighthouse. [character1] is a man."


@pytest.mark.parametrize("length", [0, 1, 100])
def test_another_number_of_shots_is_said(length):
    shots = [{"caption": f"Shot of room {n} with [character1] in it, {n * 'very '}dark."} for n in range(length)]
    if length == 1:
        judged = judge(text(shots=shots), WANTED, None)
        assert judged.found == ("number of shots: there are 1, and 2 were asked for",)
        assert judged.written.report.frames == WANTED.frames
    else:
        assert "`$.shots`" in found(text(shots=shots))


@pytest.mark.parametrize(
    "changes",
    [
        {"global": 5},
        {"global": None},
        {"global": ""},
        {"global": " \n "},
        {"global": ["a"]},
        {"global": "x" * 2001},
        {"title": "x" * 121},
        {"title": {"a": 1}},
        {"shots": {}},
        {"shots": "two"},
        {"shots": None},
        {"shots": [1, 2]},
        {"shots": [[FIRST], [SECOND]]},
        {"shots": [{"caption": FIRST}, {}]},
        {"shots": [{"caption": FIRST}, {"caption": ""}]},
        {"shots": [{"caption": FIRST}, {"caption": "x" * 1001}]},
        {"shots": [{"caption": FIRST}, {"caption": SECOND, "seconds": "3 s"}]},
        {"shots": [{"caption": FIRST}, {"caption": SECOND, "seconds": 0}]},
        {"shots": [{"caption": FIRST}, {"caption": SECOND, "seconds": -1}]},
        {"shots": [{"caption": FIRST}, {"caption": SECOND, "seconds": 1e9}]},
        {"shots": [{"caption": FIRST}, {"caption": SECOND, "seconds": True}]},
        {"shots": [{"caption": FIRST}, {"caption": SECOND, "seconds": float("nan")}]},
        {"shots": [{"caption": FIRST}, {"caption": SECOND, "seconds": float("inf")}]},
    ],
)
def test_wrong_types_and_lengths_are_refused(changes):
    assert found(text(**changes))


@pytest.mark.parametrize(
    "said",
    [
        "",
        "I cannot do that.",
        "}{",
        "[]",
        "{",
        "{}",
        "{nope}",
        "[" * 60_000,
        '{"a":' * 10_000 + "1" + "}" * 10_000,
        '{"global":' + "[" * 50_000 + "]" * 50_000 + "}",
        text()[:-1],
        text() + text(),
        "x" * (LONGEST_ANSWER + 1),
        text(**{"global": "x" * LONGEST_ANSWER}),
        "{\ud800}",
    ],
)
def test_what_is_no_answer_is_refused(said):
    assert found(said)


@pytest.mark.parametrize("where", ["title", "global", "caption"])
@pytest.mark.parametrize(
    "hidden",
    ["\x00", "\x07", "\x1b[2J", "\x7f", "\x9b", "\u202e", "\u200b", "\ufeff", "\u2066", "\U000e0041", "&#27;[2J"],
)
def test_characters_that_nobody_sees_are_refused(where, hidden):
    changed = f"A lamp{hidden}house with [character1]."
    shots = [{"caption": changed}, {"caption": SECOND}]
    judged = judge(text(**({"shots": shots} if where == "caption" else {where: changed})), WANTED, None)
    if hidden == "&#27;[2J":  # cleaning takes it away with what follows, as in training
        board = judged.written.board if judged.written else None
        assert judged.found or "\x1b" not in clean(f"{board.title} {board.prompt}")
    else:
        assert "which nobody sees; leave it out" in judged.found[0]


def test_half_of_a_character_is_refused():
    assert found(text().replace("lighthouse", "light\\ud800house"))


def test_scripts_that_need_joiners_are_taken():
    scene = "A house in ایران. می‌خواهم, 👩‍🚀. [character1] is a woman."
    assert judge(text(**{"global": scene}), WANTED, None).written.board.global_caption == scene


@pytest.mark.parametrize(
    "tag", ["[shot cut]", "[per shot caption]", "[global caption]", "[Shot Cut]", "&#91;shot cut]"]
)
def test_tags_in_captions_are_refused_and_what_is_left_goes_back(tag):
    judged = judge(text(shots=[{"caption": f"{FIRST} {tag} Another."}, {"caption": SECOND}]), WANTED, None)
    assert judged.written is None
    assert judged.answer is not None
    assert "shot 1 contains the tag" in judged.found[0]


def test_what_check_finds_is_found():
    shots = [
        {"caption": "Wide shot of [character2] by the sea."},
        {"caption": "Wide shot of [character2] by the sea."},
    ]
    judged = judge(text(shots=shots), WANTED, None)
    assert [line.partition(":")[0] for line in judged.found] == ["unknown tag", "unused tag", "alike"]


def test_a_wrong_number_in_the_global_caption_is_found():
    judged = judge(text(**{"global": f"{SCENE} This scene contains 4 shots."}), WANTED, None)
    assert judged.found == ("shot count: the global caption says 'contains 4 shots', but there are 2",)


def test_long_texts_are_found_without_a_tokenizer():
    long = "Wide shot of [character1] " + "walking past another grey rock " * 30
    judged = judge(
        text(shots=[{"caption": long}, {"caption": SECOND + " and more of the light" * 40}]), WANTED, None
    )
    assert [line.partition(":")[0] for line in judged.found] == ["long text"]


def test_tokens_are_counted_where_there_is_a_tokenizer(umt5_tokenizer_path):
    tokenizer = PromptTokenizer(umt5_tokenizer_path)
    assert judge(text(), WANTED, tokenizer).written.report.tokens.total > 40
    shots = [{"caption": FIRST + " ☂" * 200}, {"caption": SECOND + " ☃" * 200}]  # few words, many tokens
    (line,) = judge(text(shots=shots), WANTED, tokenizer).found
    assert re.match(r"long text: the prompt has \d+ tokens, the limit is 512, shot 2 is cut off first", line)


def test_a_long_video_is_a_note_that_does_not_go_back():
    wanted = Wanted("a keeper", 2, 60)
    judged = judge(text(), wanted, None)
    assert judged.found == ()
    assert [each.rule for each in judged.written.report.findings if each.is_note] != []


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(["title", "global", "shots", "caption", "seconds"])
SHOTS = st.lists(st.dictionaries(KEYS, TREES | st.just(FIRST), max_size=3) | TREES, max_size=4)


@given(said=st.text(max_size=200) | st.dictionaries(KEYS, TREES | SHOTS, max_size=4).map(json.dumps))
def test_whatever_is_answered_is_judged_in_lines(said):
    judged = judge(said, WANTED, None)
    assert all(len(line.splitlines()) == 1 for line in judged.found)
    assert judged.found or judged.written is not None


@given(caption=st.text(min_size=1, max_size=1000), scene=st.text(min_size=1, max_size=2000))
def test_what_becomes_a_storyboard_can_be_written_and_read_again(caption, scene):
    judged = judge(text(shots=[{"caption": caption}, {"caption": SECOND}], **{"global": scene}), WANTED, None)
    if judged.written is not None:
        board = judged.written.board
        assert parse_toml(dump_toml(board), "x") == board
        assert board.prompt.count(PER_SHOT_TAG) == 1


def test_the_form_asks_for_what_is_read():
    schema = form(WANTED)["json_schema"]["schema"]
    shots = schema["properties"]["shots"]
    assert (shots["minItems"], shots["maxItems"]) == (2, 2)
    made = {"title": "a", "global": SCENE, "shots": [{"caption": FIRST, "seconds": 1.5}] * 2}
    assert set(schema["required"]) == set(schema["properties"]) == set(made)
    assert set(shots["items"]["required"]) == set(made["shots"][0])
    assert read_answer(json.dumps(made)).shots[0].seconds == 1.5
