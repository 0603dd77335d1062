"""The lengths of shots: as proposed, in numbers that the model can have."""

import pytest
from hypothesis import given, strategies as st

from holo_lite.errors import SettingsError
from holo_lite.preflight.rules import short_shots
from holo_lite.story.shots import round_frames
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.story.timeline import MOST_FRAMES, resolve_timeline
from holo_lite.writing.lengths import fewest_frames, shot_frames
from holo_lite.writing.wanted import MOST_SHOTS, Wanted

WEIGHTS = st.lists(st.floats(1e-6, 3600), min_size=1, max_size=MOST_SHOTS)


def board(lengths):
    return Storyboard("A house.", tuple(Shot(f"shot of room {n}", frames=each) for n, each in enumerate(lengths)))


@given(weights=WEIGHTS, more=st.integers(0, 2000))
def test_lengths_are_as_long_as_asked_and_need_no_rounding(weights, more):
    frames = round_frames(fewest_frames(len(weights)) + more)
    lengths = shot_frames(frames, weights)
    timeline = resolve_timeline(board(lengths), default_frames=1, fps=15)
    assert (timeline.num_frames, sum(lengths)) == (frames, frames)
    assert not any("rounded" in note for note in timeline.notes)
    assert [*short_shots(board(lengths), timeline)] == []


@given(weights=WEIGHTS, more=st.integers(0, 2000))
def test_what_is_proposed_longer_is_not_shorter(weights, more):
    first, *others = shot_frames(round_frames(fewest_frames(len(weights)) + more), weights)
    latents = [(first + 3) // 4, *(each // 4 for each in others)]
    for one, a in zip(latents, weights, strict=True):
        for other, b in zip(latents, weights, strict=True):
            assert one >= other - 1 or a <= b


@pytest.mark.parametrize(
    ("frames", "weights", "lengths"),
    [
        (241, [1], (241,)),
        (225, [1, 1, 1], (73, 76, 76)),
        (225, [2, 5, 3], (41, 116, 68)),
        (13, [1, 100], (5, 8)),
        (17, [1, 100], (5, 12)),
        (121, [1e-6, 1, 1], (5, 60, 56)),
    ],
)
def test_lengths_follow_the_weights(frames, weights, lengths):
    assert shot_frames(frames, weights) == lengths


def test_a_shot_more_or_a_frame_less_is_short():
    for shots in range(1, MOST_SHOTS + 1):
        fewest = fewest_frames(shots)
        shot_frames(fewest, [1.0] * shots)
        with pytest.raises(AssertionError, match="too few"):
            shot_frames(fewest - 4, [1.0] * shots)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (("", 5, 15), "the idea has 0 characters; write one of 1 to 4000"),
        ((" \n\t ", 5, 15), "the idea has 0 characters"),
        (("x" * 4001, 5, 15), "the idea has 4001 characters"),
        ((7, 5, 15), "idea: give a text, not 7"),
        (("a road", 0, 15), "0 shots: give 1 to 24"),
        (("a road", 25, 15), "25 shots: give 1 to 24"),
        (("a road", 2.5, 15), "shots: give a whole number"),
        (("a road", 5, 2.4), "2.4 seconds for 5 shots: give 2.5 to 960"),
        (("a road", 5, 961), "961 seconds for 5 shots: give 2.5 to 960"),
        (("a road", 5, float("nan")), "nan seconds for 5 shots"),
        (("a road", 5, float("inf")), "inf seconds for 5 shots"),
    ],
)
def test_an_order_that_cannot_be_is_one_line(order, said):
    with pytest.raises(SettingsError, match=said):
        Wanted(*order)


@given(shots=st.integers(1, MOST_SHOTS), seconds=st.floats(0, 2000))
def test_every_order_that_is_taken_has_room(shots, seconds):
    try:
        wanted = Wanted("a road", shots, seconds)
    except SettingsError:
        assert not fewest_frames(shots) / 15 + 0.1 <= seconds <= MOST_FRAMES / 15 - 1
        return
    assert sum(shot_frames(wanted.frames, [1.0] * shots)) == wanted.frames
    assert abs(wanted.frames / 15 - seconds) <= 2.5 / 15
