"""Storyboards and their timelines: the reference's prompts and cuts, and every mistake a person can make."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, reject, strategies as st

from holo_lite.errors import StoryboardError
from holo_lite.story.prompt import caption_spans, clean
from holo_lite.story.shots import round_frames
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.story.timeline import MOST_FRAMES, SAFE_SPACING, Timeline, resolve_timeline

ROWS = json.loads((Path(__file__).parents[1] / "parity_data" / "shots.json").read_text())
row = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['frames_requested']}x{row['shots']}")
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="[]&<"), min_size=1)


def board(count=3, **keys):
    return Storyboard("G", tuple(Shot(f"c{i}") for i in range(count)), **keys)


def timed(*shots, **keys):
    return Storyboard("G", tuple(Shot("c", **shot) for shot in shots), **keys)


def resolve(storyboard, default_frames=241, fps=15.0, **keys):
    return resolve_timeline(storyboard, default_frames=default_frames, fps=fps, **keys)


def message_of(action):
    with pytest.raises(StoryboardError) as caught:
        action()
    message = str(caught.value)
    assert message.splitlines() == [message]
    assert len(message) < 250
    return message


# --- prompts ---------------------------------------------------------------------------------------


@row
def test_reference_prompt_is_exact(row):
    assert board(row["shots"]).prompt == row["prompt"]


def test_shot_count_sentence_is_not_said_twice():
    said = Storyboard("G. This scene contains 2 shots.", (Shot("a"), Shot("b")))
    assert said.prompt == "[global caption] G. This scene contains 2 shots. [per shot caption] a [shot cut] b"


def test_line_breaks_of_a_file_do_not_reach_the_prompt():
    assert Storyboard("G\n g ", (Shot("\na\n b"),)).prompt.endswith("contains 1 shots. [per shot caption] a b")


@given(WORDS, st.lists(WORDS, min_size=1, max_size=13))
@example("\x80", ["Â", "0"])
@example("G", ["\x85"])
def test_prompt_has_the_windows_its_storyboard_has_shots(scene, captions):
    try:
        storyboard = Storyboard(scene, tuple(map(Shot, captions)))
    except StoryboardError:
        reject()
    spans = caption_spans(clean(storyboard.prompt))
    assert len(spans.shot_spans) == storyboard.shot_count == len(captions)
    assert Storyboard(None, (), raw=storyboard.prompt).shot_count == len(captions)


@row
def test_raw_prompt_is_kept_and_its_captions_are_found(row):
    storyboard = Storyboard(None, (), raw=row["prompt"])
    assert storyboard.prompt == row["prompt"]
    assert storyboard.shot_captions() == [f"c{i}" for i in range(row["shots"])]


@pytest.mark.parametrize("raw", ["a fox in snow", "[global caption] a fox in snow"])
def test_a_prompt_without_shot_captions_is_one_shot(raw):
    storyboard = Storyboard(None, (), raw=raw)
    assert storyboard.shot_count == 1
    assert storyboard.shot_captions() == ["a fox in snow"]


def test_tags_are_found_as_the_tokenizer_sees_them():
    raw = "[global  caption] G [per shot\ncaption] a &#91;shot cut] b"
    assert Storyboard(None, (), raw=raw).shot_captions() == ["a", "b"]


RAW_FAULTS = {
    "  \n": "prompt is empty",
    "[per shot caption] a [shot cut] b": "[global caption]",
    "a [shot cut] b": "[global caption]",
    "[global caption] G [shot cut] b": "[per shot caption]",
    "[global caption] G [shot cut] a [per shot caption] b": "[per shot caption]",
    "[per shot caption] a [global caption] G": "[global caption]",
    "[global caption] G [per shot caption] a [per shot caption] b": "2 times",
    "[global caption] G [global caption] H": "2 times",
    "[global caption] G [per shot caption] a [Shot Cut] b": "write it [shot cut]",
    "[global caption] G [per shot caption] a [shot cut]": "shot 2 has no caption",
    "[global caption] G [per shot caption] [shot cut] b": "shot 1 has no caption",
    "[global caption] [per shot caption] a": "[global caption] has no text",
    "[global caption] ": "[global caption] has no text",
    "before [global caption] G [per shot caption] a": "text before",
    "half \ud800": "half of a character",
}


@pytest.mark.parametrize(("raw", "fragment"), RAW_FAULTS.items(), ids=ascii)
def test_malformed_whole_prompt_is_refused(raw, fragment):
    assert fragment in message_of(lambda: Storyboard(None, (), raw=raw))


CAPTION_FAULTS = [
    ("G", [], "no shots"),
    (None, ["a"], "no global caption"),
    ("  ", ["a"], "no global caption"),
    ("G", ["a", " \n"], "shot 2 has an empty caption; describe what is seen in it"),
    ("G", ["a", "b [shot cut] c"], "shot 2 contains the tag [shot cut]"),
    ("G", ["[Per Shot Caption] a"], "shot 1 contains the tag [Per Shot Caption]"),
    ("[global caption] G", ["a"], "the global caption contains the tag"),
    ("G", ["a \udfff"], "half of a character"),
]


@pytest.mark.parametrize(("scene", "captions", "fragment"), CAPTION_FAULTS)
def test_malformed_captions_are_refused(scene, captions, fragment):
    assert fragment in message_of(lambda: Storyboard(scene, tuple(map(Shot, captions))))


@pytest.mark.parametrize(("scene", "shots"), [("G", ()), (None, (Shot("a"),))])
def test_whole_prompt_beside_captions_is_refused(scene, shots):
    assert "keep one" in message_of(lambda: Storyboard(scene, shots, raw="a fox"))


def test_character_tags_are_ordinary_text():
    assert "[character1]" in Storyboard("G [character1]", (Shot("[character1] runs"),)).prompt


# --- timelines -------------------------------------------------------------------------------------


@row
def test_reference_timeline_is_exact(row):
    cuts = row["cuts_requested"]
    storyboard = board(row["shots"], frames=row["frames_requested"], cuts=cuts and tuple(cuts))
    timeline = resolve(storyboard)
    assert (timeline.num_frames, list(timeline.cuts)) == (row["num_frames"], row["cut_frames"])


def test_length_comes_from_command_line_then_file_then_default():
    assert resolve(board(frames=81), frames=161).num_frames == 161
    assert resolve(board(frames=81)).num_frames == 81
    assert resolve(board()).num_frames == 241


def test_cuts_of_command_line_replace_those_of_file():
    assert resolve(board(cuts=(49, 97)), cuts=(81, 161)).cuts == (81, 161)


def test_raw_prompt_takes_cuts():
    raw = "[global caption] G [per shot caption] a [shot cut] b"
    assert resolve(Storyboard(None, (), raw=raw, cuts=(49,))).cuts == (49,)


def test_frames_and_seconds_may_be_mixed_between_shots():
    timeline = resolve(timed({"frames": 49}, {"seconds": 3.2}, {"frames": 48}, {"seconds": 6.4}))
    assert timeline == Timeline(241, (49, 97, 145), ())


def test_fractions_of_frames_do_not_pile_up():
    timeline = resolve(timed(*[{"seconds": 1.7}] * 13))  # 25.5 frames each; 26 each would give 338
    assert abs(timeline.num_frames - 13 * 25.5) <= 2.5


def test_durations_may_repeat_their_sum_as_length():
    shots = timed({"frames": 120}, {"frames": 120}, frames=240)
    assert resolve(shots).num_frames == resolve(shots, frames=241).num_frames == 241


def test_every_rounding_is_told_in_one_note():
    timeline = resolve(board(cuts=(50, 99), frames=240))
    note = "rounded length 240 → 241, cut 50 → 49, cut 99 → 97: cuts and length must be 1, 5, 9, 13, …"
    assert timeline == Timeline(241, (49, 97), (note,))


def test_nothing_is_told_when_nothing_changes():
    assert resolve(board(5)).notes == ()
    assert resolve(board(3), default_frames=81).notes == ()


def test_longer_than_trained_is_told_once():
    assert resolve(board(), frames=241).notes == ()
    (note,) = resolve(board(), frames=245).notes
    assert "245 frames" in note
    assert "241 frames, 16.1 s at 15 fps" in note
    (note,) = resolve(board(), frames=245, fps=24).notes
    assert "241 frames, 10.0 s at 24 fps" in note


@given(st.lists(st.integers(SAFE_SPACING, 300), min_size=1, max_size=13))
def test_shots_of_five_frames_or_more_always_fit(lengths):
    timeline = resolve(timed(*({"frames": frames} for frames in lengths)))
    assert len(timeline.cuts) == len(lengths) - 1
    edges = [0, *timeline.cuts, timeline.num_frames]
    assert all(a < b for a, b in pairwise(edges))
    assert all(edge % 4 == 1 for edge in edges[1:])
    told = [said for note in timeline.notes for said in re.findall(r"cut \d+ → \d+", note)]
    asked = [sum(lengths[: i + 1]) for i in range(len(lengths) - 1)]
    assert told == [f"cut {a} → {b}" for a, b in zip(asked, timeline.cuts, strict=True) if a != b]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.floats(0.5, 60))
def test_a_refused_duration_is_named_by_its_shot_and_never_by_a_cut(lengths, fps):
    storyboard, said = timed(*({"frames": frames} for frames in lengths)), ""
    try:
        resolve(storyboard, fps=fps)
    except StoryboardError as error:
        said = str(error)
    named = re.match(r"shot (\d+) lasts", said)
    assert bool(said) == (named is not None)
    assert "cut " not in said
    assert named is None or lengths[int(named[1]) - 1] < SAFE_SPACING


@given(st.integers(1, 60), st.integers(1, 400))
def test_an_even_split_either_gives_every_shot_frames_or_is_refused(shots, frames):
    try:
        timeline = resolve(board(shots), frames=frames)
    except StoryboardError:
        assert frames < SAFE_SPACING * shots
        return
    edges = [0, *timeline.cuts, timeline.num_frames]
    assert len(edges) == shots + 1
    assert all(a < b for a, b in pairwise(edges))


@given(st.integers(2, 100))
def test_the_length_recommended_for_too_many_shots_works(shots):
    message = message_of(lambda: resolve(board(shots), frames=1))
    recommended = int(message.rsplit("at least ", 1)[1].split()[0])
    assert resolve(board(shots), frames=recommended).num_frames == recommended


@given(st.lists(st.integers(-20, 320), max_size=5), st.integers(1, 300))
def test_cuts_are_resolved_whole_or_refused_never_dropped(cuts, frames):
    storyboard = board(len(cuts) + 1, cuts=tuple(cuts))
    try:
        timeline = resolve(storyboard, frames=frames)
    except StoryboardError:
        edges = [0, *cuts, frames]
        assert any(b - a < SAFE_SPACING for a, b in pairwise(edges))
        return
    assert timeline.cuts == tuple(map(round_frames, cuts))
    assert all(a < b for a, b in pairwise((0, *timeline.cuts, timeline.num_frames)))


CUT_FAULTS = [
    ((97, 49), "cut 49 comes after 97"),
    ((97, 97), "cut 97 is given twice"),
    ((0, 97), "cut 0"),
    ((-4, 97), "cut -4"),
    ((49, 241), "cut 241"),
    ((49, 239), "cuts go from 1 to 237"),
    ((49, 10**500), "a huge number"),
    ((49, 50), "cuts 49 and 50 both round to 49, which leaves shot 2 without frames"),
    ((49,), "3 shots need 2 cuts but there are 1"),
    ((49, 97, 145), "3 shots need 2 cuts but there are 3"),
    ((), "3 shots need 2 cuts but there are 0"),
    ((True, 97), "cut True is not a whole number"),
    ((49.0, 97), "cut 49.0 is not a whole number"),
]


@pytest.mark.parametrize(("cuts", "fragment"), CUT_FAULTS)
def test_impossible_cuts_are_refused(cuts, fragment):
    assert fragment in message_of(lambda: resolve(board(cuts=cuts)))
    assert fragment in message_of(lambda: resolve(board(), cuts=cuts))


def test_first_and_last_possible_cut_are_accepted():
    assert resolve(board(cuts=(1, 237))).cuts == (1, 237)


@pytest.mark.parametrize(
    "frames",
    [0, -1, True, 81.0, "81", MOST_FRAMES + 1, 10**5000],
    ids=lambda n: str(n)[:8] if n != 10**5000 else "huge",
)
def test_impossible_lengths_are_refused(frames):
    assert "whole number from 1 to" in message_of(lambda: resolve(board(), frames=frames))
    assert "whole number from 1 to" in message_of(lambda: resolve(board(frames=frames)))
    assert "frames of shot 1" in message_of(lambda: resolve(timed({"frames": frames})))


@pytest.mark.parametrize("seconds", [0, -1.0, 0.01, math.nan, math.inf, 1e300, True, "1"])
def test_impossible_seconds_are_refused(seconds):
    assert "seconds of shot 2" in message_of(lambda: resolve(timed({"frames": 49}, {"seconds": seconds})))


@pytest.mark.parametrize("fps", [0.0, -15.0, math.nan, math.inf])
def test_impossible_rate_is_refused(fps):
    assert "cannot time the shots" in message_of(lambda: resolve(timed({"seconds": 1.0}), fps=fps))


@pytest.mark.parametrize("frames", [1, 4, 5, 9])
def test_more_shots_than_latent_frames_is_refused(frames):
    assert "4 shots do not fit into" in message_of(lambda: resolve(board(4), frames=frames))


def test_even_cuts_that_fall_together_are_refused():
    assert "some cuts would be the same" in message_of(lambda: resolve(board(5), frames=17))


TIMING_FAULTS = [
    (timed({"frames": 9}, {}), {}, "shot 2 has neither frames nor seconds"),
    (timed({"frames": 9, "seconds": 1.0}), {}, "shot 1 has both frames and seconds"),
    (timed({"frames": 9}, {"frames": 9}, cuts=(9,)), {}, "both cuts and durations"),
    (timed({"frames": 9}, {"frames": 9}), {"cuts": (9,)}, "both cuts and durations"),
    (timed({"frames": 9}, {"frames": 9}, frames=81), {}, "together but frames is 81; remove frames"),
    (
        timed({"frames": 9}, {"frames": 9}),
        {"frames": 81},
        "18 frames together but --frames is 81; remove --frames",
    ),
    (timed({"frames": 49}, {"frames": 1}, {"frames": 49}), {}, "shot 2 lasts 1 frame, too short"),
    (timed({"frames": 49}, {"frames": 1}), {}, "shot 2 lasts 1 frame, too short"),
    (timed({"frames": 7}, {"frames": 4}, {"frames": 40}), {}, "shot 2 lasts 4 frames, too short"),
    (
        timed({"seconds": 1.0}, {"seconds": 0.5}, {"seconds": 0.1}),
        {"fps": 24},
        "shot 3 lasts 0.1 s (2.4 frames at 24 fps), too short to keep a frame of its own once its ends are rounded "
        "to 1, 5, 9, 13, …; give it at least 5 frames (0.21 s)",
    ),
    (timed(*[{"frames": MOST_FRAMES}] * 2), {}, "the length in frames is 28802"),
]


@pytest.mark.parametrize(("storyboard", "keys", "fragment"), TIMING_FAULTS, ids=[f[2] for f in TIMING_FAULTS])
def test_contradicting_timings_are_refused(storyboard, keys, fragment):
    assert fragment in message_of(lambda: resolve(storyboard, **keys))


def test_errors_of_the_timeline_name_the_file():
    message = message_of(lambda: resolve(board(cuts=(97, 49), source="night.toml")))
    assert message.startswith("night.toml: cut 49")
