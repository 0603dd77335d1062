"""Frames, cuts and the places of shots: the reference's rows, and what must hold for all others."""

import json
from fractions import Fraction
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from holo_lite.story.shots import ShotLayout, even_cuts, first_latent_frame, latent_frames, round_frames

ROWS = json.loads((Path(__file__).parents[1] / "parity_data" / "shots.json").read_text())
row = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['frames_requested']}x{row['shots']}")


@st.composite
def layouts(draw):
    shots = draw(st.integers(1, 13))
    lengths = draw(st.lists(st.integers(1, 20), min_size=shots, max_size=shots))
    starts = tuple(sum(lengths[:shot]) for shot in range(shots))
    rows, columns = draw(st.integers(1, 45)), draw(st.integers(1, 80))
    return ShotLayout(starts, sum(lengths), rows, columns)


@row
def test_reference_length_and_even_cuts_are_exact(row):
    num_frames = round_frames(row["frames_requested"])
    assert num_frames == row["num_frames"]
    if row["cuts_requested"] is None:
        assert list(even_cuts(num_frames, row["shots"])) == row["cut_frames"]


@row
def test_reference_shot_of_every_latent_frame_is_exact(row):
    layout = ShotLayout.from_frames(row["num_frames"], tuple(row["cut_frames"]), 480, 832)
    assert list(layout.shot_of_latent_frame) == row["shot_of_latent_frame"]
    assert layout.frame_tokens == 1560
    assert layout.tokens == 1560 * len(row["shot_of_latent_frame"])


@given(st.integers(1, 10**6))
def test_rounding_gives_the_nearest_4t_plus_1_and_ties_go_to_even_t(n):
    rounded = round_frames(n)
    assert rounded == 4 * round(Fraction(n - 1, 4)) + 1
    assert rounded % 4 == 1
    assert abs(rounded - n) <= 2
    assert round_frames(rounded) == rounded


@pytest.mark.parametrize(("n", "rounded"), [(1, 1), (3, 1), (4, 5), (7, 9), (11, 9), (240, 241), (242, 241)])
def test_rounding_ties_do_not_simply_go_up(n, rounded):
    assert round_frames(n) == rounded


@given(st.integers(0, 4000))
def test_a_cut_starts_the_latent_frame_that_holds_its_frame_first(t):
    cut = 4 * t + 1
    decoded_before = 4 * first_latent_frame(cut) - 3  # frames that the latent frames before it decode to
    assert decoded_before == cut
    assert latent_frames(cut) == first_latent_frame(cut)


@given(st.integers(1, 40), st.integers(0, 500))
def test_even_cuts_of_a_roomy_clip_ascend_inside_it(shots, extra):
    num_frames = round_frames(5 * shots + 2 + extra)
    cuts = even_cuts(num_frames, shots)
    edges = [0, *cuts, num_frames]
    assert len(cuts) == shots - 1
    assert edges == sorted(set(edges))


@given(layouts())
def test_shots_cover_all_tokens_once_and_in_order(layout):
    spans = [layout.token_span(shot) for shot in range(layout.shots)]
    assert list(chain(*spans)) == list(range(layout.tokens))
    assert layout.longest == max(map(len, spans))


@given(layouts())
def test_representative_is_the_first_latent_frame_of_its_shot(layout):
    for shot in range(layout.shots):
        span = layout.representative_span(shot)
        assert len(span) == layout.frame_tokens
        assert span.start == layout.token_span(shot).start
        assert span.start // layout.frame_tokens == layout.frame_span(shot)[0]


@given(layouts())
def test_shot_of_latent_frame_agrees_with_frame_spans(layout):
    owners = layout.shot_of_latent_frame
    assert len(owners) == layout.latent_frames
    for shot in range(layout.shots):
        assert {owners[frame] for frame in layout.frame_span(shot)} == {shot}


@pytest.mark.parametrize(
    ("starts", "frames"), [((), 5), ((1,), 5), ((0, 3, 3), 5), ((0, 4, 2), 5), ((0, 5), 5), ((0,), 0)]
)
def test_a_layout_with_an_empty_shot_is_our_bug(starts, frames):
    with pytest.raises(AssertionError):
        ShotLayout(starts, frames, 2, 2)


@pytest.mark.parametrize("arguments", [(80, (), 32, 32), (81, (40,), 32, 32), (81, (), 40, 32), (81, (), 32, 8)])
def test_unrounded_frames_or_pixels_never_reach_a_layout(arguments):
    with pytest.raises(AssertionError):
        ShotLayout.from_frames(*arguments)
