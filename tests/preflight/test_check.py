"""The cut linter: what it finds, what it lets pass, and the timeline it draws."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from guard import HANGS
from hypothesis import given, settings, strategies as st

from holo_lite.preflight.check import check_storyboard, count_tokens
from holo_lite.preflight.rules import likeness
from holo_lite.settings import Options
from holo_lite.story.files import load_storyboard
from holo_lite.story.numbered import numbered_shots
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.text.windows import PromptTokenizer, read_prompt
from holo_lite.tiny.demo import storyboard as demo_storyboard
from holo_lite.views.check import FULL, HALF, report_lines

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "storyboards").iterdir())
ANNA = "[character1] is Anna, in a red coat. [character2] is Ben, in a green one."
LONG = "[global caption] A. [per shot caption] a quiet road by the sea [shot cut] " + "a road " * 600


@pytest.fixture(scope="module")
def tokenizer(umt5_tokenizer_path):
    return PromptTokenizer(umt5_tokenizer_path)


def board(*captions, scene=ANNA, **timing):
    return Storyboard(scene, tuple(Shot(caption) for caption in captions), **timing)


def found(storyboard, rule, **options):
    """The messages of one rule."""
    return [each.message for each in check_storyboard(storyboard, Options(**options)).findings if each.rule == rule]


def rows(report, width=100):
    return [line.plain for line in report_lines(report, width)]


# --- what is found ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_good_storyboards_pass(path):
    """A linter that cries wolf is not read."""
    allowed = {"long video"} if path.stem == "long_haul" else set()
    assert {each.rule for each in check_storyboard(load_storyboard(path)).findings} == allowed


def test_the_demos_short_captions_pass():
    assert check_storyboard(demo_storyboard()).findings == ()


def test_a_name_nobody_introduced_is_told_with_its_shots_and_the_nearest():
    both = "[character1] meets [character2]."
    (message,) = found(board(both, "[Character1] turns.", "Close on [Character1]."), "unknown tag")
    assert message.startswith("[Character1] in shots 2 and 3 is not introduced in the global caption")
    assert message.endswith("did you mean 'character1'?")
    assert found(board(both, "[x] waits."), "unknown tag")[0].endswith("; describe there who it is")


def test_names_of_one_shot_are_told_in_the_same_order_every_time():
    names = [f"n{number}" for number in range(8)]
    told = found(board(" and ".join(f"[{name}]" for name in reversed(names))), "unknown tag")
    assert [message.split("]")[0] for message in told] == [f"[{name}" for name in names]


def test_a_name_no_shot_uses_is_told():
    (message,) = found(board("Wide shot of [character1].", "Close-up of [character1]."), "unused tag")
    assert message.startswith("[character2] is introduced")


def test_names_are_found_in_a_whole_prompt_as_in_parts():
    raw = "[global caption] [character1] is Anna. [per shot caption] wide [shot cut] [character3] comes"
    rules = {each.rule for each in check_storyboard(Storyboard(None, (), raw=raw)).findings}
    assert rules == {"unknown tag", "unused tag"}
    plain = Storyboard(None, (), raw="A road with [character1] on it.")
    assert check_storyboard(plain).findings == ()  # one text is scene and shot


@pytest.mark.parametrize(
    ("said", "wrong"), [("2", False), ("two", False), ("3", True), ("Five", True), ("many", False)]
)
def test_a_wrong_number_of_shots_is_told(said, wrong):
    scene = f"A road. This scene contains {said} shots."
    assert bool(found(board("wide", "close", scene=scene), "shot count")) == wrong


def test_captions_that_are_nearly_one_are_told_both():
    first = "Medium shot of [character1] winding the brass clockwork of the lamp, glancing at the window."
    second = first.replace("window", "door")
    report = check_storyboard(
        board(first, "Wide shot of [character2] at sea, rowing against the swell.", second, second)
    )
    alike = {each.shots: each.message for each in report.findings if each.rule == "alike"}
    assert set(alike) == {(1, 3), (1, 4), (3, 4)}
    assert "may not be seen" in alike[3, 4]
    assert "are the same" in alike[3, 4]
    assert "may not be seen" not in alike[1, 3]


def test_another_person_in_the_same_words_is_another_picture():
    text = "Close-up of [character1] listening in the doorway, rain running down the coat, eyes shut"
    assert found(board(text, text.replace("character1", "character2")), "alike") == []


TEXT = st.text(alphabet="abc [1]镜头 ", max_size=20)


@given(TEXT, TEXT)
def test_likeness_is_a_share_and_has_no_direction(one, other):
    assert likeness(one, other) == likeness(other, one)
    assert 0 <= likeness(one, other) <= 1
    assert likeness(one, one) == 1


def test_words_without_spaces_are_compared_by_character():
    assert 0.8 < likeness("一个女人走在雨夜的街道上", "一个女人走在雨夜的街道旁") < 1


@pytest.mark.parametrize(
    ("frames", "short"), [((5, 8, 8), ()), ((2, 8, 8), (1,)), ((5, 4, 8), (2,)), ((1, 8, 4), (1, 3))]
)
def test_a_shot_of_one_latent_frame_is_a_still(frames, short):
    shots = tuple(Shot(f"shot {n}", frames=count) for n, count in enumerate(frames, start=1))
    report = check_storyboard(Storyboard("A road.", shots))
    assert tuple(each.shots[0] for each in report.findings if each.rule == "short shot") == short
    assert [shot.latent_frames == 1 for shot in report.shots] == [shot.number in short for shot in report.shots]


def test_a_shot_longer_than_any_video_the_model_saw_is_told():
    storyboard = board("one", "two", cuts=(261,), frames=281)
    assert [each.shots for each in check_storyboard(storyboard).findings if each.rule == "long shot"] == [(1,)]
    assert len(found(storyboard, "long video")) == 1


# --- tokens ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_captions_and_the_end_make_up_all_tokens(path, tokenizer):
    storyboard = load_storyboard(path)
    tokens = count_tokens(storyboard, tokenizer)
    assert (
        tokens.shared + sum(tokens.shots) + 1 == tokens.total == len(read_prompt(storyboard.prompt, tokenizer).ids)
    )
    assert len(tokens.shots) == storyboard.shot_count


def test_too_many_tokens_are_drawn_and_then_refused(run, umt5_tokenizer_path):
    outcome = run("check", LONG, "--tokenizer", umt5_tokenizer_path)
    assert outcome.code == 2
    assert " of 512" in outcome.out
    assert "nothing found" not in outcome.out
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: the prompt has ")
    assert "shot 2 is cut off first" in line


def test_tokens_are_not_counted_with_a_vocabulary_that_nobody_named(run):
    outcome = run("check", EXAMPLES[0])
    assert "words): pass --model or --tokenizer" in outcome.out
    assert json.loads(run("check", EXAMPLES[0], "--json").out)["tokens"] is None


def test_the_models_vocabulary_and_length_are_used(run, toy_copy):
    words = "[global caption] A road. [per shot caption] wide shot [shot cut] close shot"
    report = json.loads(run("check", words, "--model", toy_copy, "--json").out)
    assert report["frames"] == 49  # the toy's, not HoloCine's
    assert report["tokens"]["total"] == 21  # as its own words count


# --- the drawing -----------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.lists(st.integers(10, 30), min_size=1, max_size=10), st.integers(100, 200))
def test_bars_follow_each_other_and_fill_the_line(lengths, width):
    shots = tuple(Shot(f"caption {n}", frames=4 * length) for n, length in enumerate(lengths))
    report = check_storyboard(Storyboard("A road.", shots))
    lines = rows(report, width)
    bars = [line[6 : line.rindex(FULL) + 1] for line in lines if line[:4].strip().isdecimal() and FULL in line]
    assert len(bars) == len(lengths)
    place = 0
    for bar, shot in zip(bars, report.shots, strict=True):
        assert bar == " " * place + FULL * (len(bar) - place)
        assert len(bar) == pytest.approx(shot.end / report.frames * len(bars[-1]), abs=0.51)
        place = len(bar)
    assert all(len(line) <= min(width, 140) for line in lines if FULL in line)


def test_the_tokens_are_drawn_to_scale(tokenizer):
    report = check_storyboard(load_storyboard(EXAMPLES[1]), tokenizer=tokenizer)
    (line,) = [line for line in rows(report) if " of 512" in line]
    cells = line.count(HALF) + line.count(FULL) + line.count("·")
    assert (line.count(HALF) + line.count(FULL)) / cells == pytest.approx(report.tokens.total / 512, abs=1 / cells)


def test_every_rounding_is_shown_with_what_was_asked():
    report = check_storyboard(board("one", "two", "three", frames=240, cuts=(50, 97)))
    (line,) = [line for line in rows(report) if line.startswith("rounded")]
    assert line.startswith("rounded length 240 → 241, cut 50 → 49: ")
    assert [shot.asked for shot in report.shots] == [None, 50, 97]
    assert not any(line.startswith("rounded") for line in rows(check_storyboard(board("one", "two"))))


def test_what_the_command_line_says_of_timing_goes_first(run):
    shots = json.loads(run("check", EXAMPLES[-1], "--frames", 81, "--cuts", 41, "--json").out)["shots"]
    assert [(shot["first"], shot["end"]) for shot in shots] == [(0, 41), (41, 81)]


# --- the command -----------------------------------------------------------------------------------


def test_the_code_says_whether_something_was_found(run, tmp_path):
    good, odd = tmp_path / "good.txt", tmp_path / "odd.txt"
    good.write_text("[global caption] [x1] walks. [per shot caption] [x1] wide [shot cut] [x1] close")
    odd.write_text("[global caption] [x1] walks. [per shot caption] [x2] wide [shot cut] [x1] close")
    outcome = run("check", good)
    assert (outcome.code, outcome.err, outcome.out.splitlines()[-1]) == (0, "", "nothing found")
    outcome = run("check", odd)
    assert (outcome.code, outcome.err, outcome.out.splitlines()[-1]) == (1, "", "1 finding")
    assert "unknown tag: [x2] in shot 1" in outcome.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('global = "A road."', "there are no shots"),
        ('global = "A."\nheight = 481\n[[shot]]\ncaption = "a"', "height 481: must be a multiple of 16"),
        (
            'global = "A."\nframes = 5\ncuts = [2, 3]\n' + '[[shot]]\ncaption = "a"\n' * 3,
            "do not fit into 5 frames",
        ),
    ],
)
def test_what_no_video_can_be_made_of_is_an_error(run, tmp_path, text, said):
    (tmp_path / "s.toml").write_text(text)
    outcome = run("check", tmp_path / "s.toml")
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err


def test_json_holds_the_whole_report(run):
    line = run("check", EXAMPLES[2], "--json").out
    expected = json.loads(json.dumps(asdict(check_storyboard(load_storyboard(EXAMPLES[2])))))
    for found in expected["findings"]:
        found["level"] = "note" if found["rule"] == "long video" else "warning"
    assert json.loads(line) == expected
    assert expected["findings"]


def test_a_note_is_no_failure(run):
    outcome = run("check", EXAMPLES[2])
    assert "note, long video: 961 frames are longer" in outcome.out
    assert outcome.code == 0


def test_many_words_are_told_where_no_vocabulary_counts_them(run, tmp_path, umt5_tokenizer_path):
    (tmp_path / "s.txt").write_text("a road by the sea " * 80)
    outcome = run("check", "s.txt")
    assert outcome.code == 1
    assert "long text: about 400 words: the model reads 512 tokens" in outcome.out
    assert "long text" not in run("check", "s.txt", "--tokenizer", umt5_tokenizer_path).out


def test_no_weight_and_no_tensor_library_is_touched(umt5_tokenizer_path):
    words = ["check", str(EXAMPLES[1]), "--tokenizer", str(umt5_tokenizer_path)]
    script = "import sys, cli\ntry: cli.main()\nexcept SystemExit: print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=HANGS
    )
    assert done.stdout.splitlines()[-1] == "False"
    assert done.stderr == ""


NUMBERED = {
    "plain": "A bar at night. Shot 1: a man drinks. Shot 2: the door opens.",
    "marked": "A bar at night.\n\n**Shot 1 (0-3s):** a man drinks.\n**Shot 2 (3-5s):** the door opens.",
    "scenes": "A bar at night.\nScene 1 - a man drinks.\nScene 2 - the door opens.",
}


@pytest.mark.parametrize("text", NUMBERED.values(), ids=NUMBERED)
def test_numbered_shots_are_offered_as_a_storyboard(text):
    (message,) = found(Storyboard(None, (), raw=text), "numbered shots")
    assert message.startswith("the text numbers 2 shots, but is one shot as it is")
    offered = load_storyboard(message.partition("as a storyboard it is: ")[2])
    assert offered.shot_captions() == ["a man drinks.", "the door opens."]
    assert offered.scene.startswith("A bar at night.")


@pytest.mark.parametrize(
    "text",
    [
        "Shot 2: x. Shot 3: y.",
        "One shot: a man.",
        "Shot 1: all of it.",
        "A shot of 1. And 2: two.",
        "Shot 1: Shot 2:",
    ],
)
def test_other_numbers_are_no_shots(text):
    assert numbered_shots(text) is None


def test_shots_without_a_scene_are_offered_with_a_place_for_it():
    offered = numbered_shots("镜头1：一个男人。镜头2：他走了。")
    assert offered.shot_captions() == ["一个男人。", "他走了。"]
    assert offered.global_caption.startswith("The characters")
