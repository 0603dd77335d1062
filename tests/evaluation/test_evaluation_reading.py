"""The reader gives back what was drawn, at other sizes, through noise and blur; the gate's marks follow from it."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from drawn import PLAIN, SCENE, blurred, noisy, scenes, spliced, truth, with_act, with_character
from hypothesis import given, settings, strategies as st

from holo_lite.errors import SettingsError
from holo_lite.evaluation.marks import SCORES, mark
from holo_lite.evaluation.reading import Reader
from holo_lite.evaluation.run import judge
from holo_lite.evaluation.scores import score_all
from holo_lite.tiny.drawing import draw
from holo_lite.tiny.world import (
    COLOURS,
    FRAMINGS,
    MOTIONS,
    PATTERNS,
    SHAPES,
    TRAITS,
    WALLS,
    Act,
    Character,
    Scene,
    Trait,
    Wall,
)


@pytest.fixture(scope="module")
def reader():
    return Reader.of(64, 112)


def judged(scene, frames, reader):
    return judge(scene, torch.from_numpy(frames), reader)


def worst(verdicts):
    return min(score.share.value for score in score_all([verdict.marks for verdict in verdicts]).values())


@pytest.fixture(scope="module")
def drawn(reader):
    """Sixty scenes with what was read in their drawn frames."""
    return [(scene, judged(scene, draw(scene), reader)) for scene in scenes(60)]


def test_every_score_of_drawn_frames_is_full(drawn):
    verdicts = [verdict for _, verdict in drawn]
    assert set(score_all([verdict.marks for verdict in verdicts])) == set(SCORES)
    assert worst(verdicts) >= 0.99


def test_noise_and_blur_do_not_matter(reader):
    spoilt = [judged(scene, noisy(blurred(draw(scene)), 0.05), reader) for scene in scenes(20, seed=1)]
    assert worst(spoilt) >= 0.99


@pytest.mark.parametrize(("height", "width", "count"), [(96, 160, 12), (128, 224, 4)])
def test_other_sizes_are_read_as_well(height, width, count):
    reader = Reader.of(height, width)
    found = [judged(scene, draw(scene, height, width), reader) for scene in scenes(count, seed=2)]
    assert worst(found) >= 0.99


def same_timing(one, other):
    return len(one.acts) == len(other.acts)


def test_with_other_words_the_scores_fall_to_chance(drawn):
    """Chance is known: a framing is one of three, a motion of five, a wall of twelve, each as often as another."""
    pairs = [
        (verdict.readings, other)
        for (scene, verdict), (other, _) in itertools.permutations(drawn, 2)
        if same_timing(scene, other)
    ]
    assert len(pairs) > 300
    found = score_all([mark(words, words.cuts, readings) for readings, words in pairs])
    chances = {"framing": 1 / 3, "motion": 1 / 5, "setting": 1 / 12}
    for name, chance in chances.items():
        assert found[name].share.value == pytest.approx(chance, abs=0.06), name
    assert found["who"].share.value < 0.1
    assert found["adherence"].share.value < 0.02
    assert found["free of leakage"].share.value < 0.6


characters = st.builds(Character, st.sampled_from(COLOURS), st.sampled_from(SHAPES), st.sampled_from(TRAITS))
walls = st.builds(Wall, st.sampled_from(WALLS), st.sampled_from(PATTERNS))
acts = st.builds(
    Act,
    st.sampled_from(FRAMINGS),
    st.sampled_from(MOTIONS),
    st.sampled_from([(0,), (1,), (0, 1), (1, 0)]),
    st.integers(2, 5),
)


@settings(max_examples=25, deadline=None)
@given(wall=walls, one=characters, other=characters, act=acts)
def test_any_drawn_shot_is_read_exactly(reader, wall, one, other, act):
    scene = Scene(wall, (one, other), (act,))
    found = reader.read(draw(scene))
    assert dataclasses.replace(found, residual=0.0) == truth(scene)[0]
    assert found.residual < 0.006


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_empty_wall_shows_nobody(reader, framing):
    found = reader.read(draw(Scene(PLAIN, (), (Act(framing, "still", (), 2),))))
    assert (found.characters, found.wall, found.framing) == ((), PLAIN, framing)


def test_the_residual_is_the_noise(reader):
    frames = draw(Scene(Wall("grey", "plain"), SCENE.characters, (Act("wide shot", "still", (0,), 3),)))
    assert reader.read(noisy(frames, 0.05)).residual == pytest.approx(0.05, rel=0.03)


def test_a_longer_shot_is_read_by_its_first_frames(reader):
    frames = draw(Scene(PLAIN, SCENE.characters, (Act("wide shot", "still", (0, 1), 5),)))
    assert reader.read(np.concatenate([frames, frames])).characters == SCENE.characters


def test_a_picture_too_narrow_for_two_is_refused():
    with pytest.raises(SettingsError, match="80×64: two characters must fit side by side"):
        Reader.of(64, 80)


# --- one thing wrong, and what it costs ------------------------------------------------------------

GREEN = {"colour": "green"}
PALER = {"trait": Trait(pale=True, spotted=False)}
WRONG = [
    pytest.param(
        1, with_act(SCENE, 1, motion="moving down"), {"motion", "adherence"}, id="a motion nobody asked for"
    ),
    pytest.param(
        0,
        with_act(SCENE, 0, motion="moving right"),
        {"motion", "adherence", "free of leakage"},
        id="another shot's motion",
    ),
    pytest.param(
        0,
        with_act(SCENE, 0, framing="medium shot"),
        {"framing", "adherence", "free of leakage"},
        id="another shot's framing",
    ),
    pytest.param(
        0,
        with_act(SCENE, 0, cast=(1,)),
        {"who", "adherence", "free of leakage", "identity", "captioned identity", "trait"},
        id="the other character",
    ),
    pytest.param(
        3,
        with_act(SCENE, 3, cast=(1,)),
        {"who", "adherence", "identity", "captioned identity", "trait"},
        id="one of two is missing",
    ),
    pytest.param(
        3,
        with_act(SCENE, 3, cast=(1, 0)),
        {"who", "adherence", "identity", "captioned identity", "trait"},
        id="left and right swapped",
    ),
    pytest.param(
        3,
        with_character(SCENE, 0, **GREEN),
        {"who", "adherence", "identity", "captioned identity"},
        id="a new colour",
    ),
    pytest.param(3, with_character(SCENE, 0, **PALER), {"identity", "trait"}, id="a new shade"),
    pytest.param(2, dataclasses.replace(SCENE, wall=Wall("brown", "striped")), {"setting"}, id="another wall"),
]


@pytest.mark.parametrize(("shot", "other", "lost"), WRONG)
def test_one_wrong_thing_costs_the_scores_it_should(reader, shot, other, lost):
    marks = judged(SCENE, spliced(SCENE, other, shot), reader).marks
    assert {name for name, count in marks.items() if count.hits < count.of} == lost
    assert marks["adherence"].hits >= 3, "one shot alone is wrong"


def test_a_colour_that_is_wrong_throughout_keeps_its_identity(reader):
    marks = judged(SCENE, draw(with_character(SCENE, 0, **GREEN)), reader).marks
    assert marks["identity"].hits == marks["identity"].of == 4
    assert marks["who"].hits == 1, "only the shot without it"


def test_where_fewer_are_seen_than_asked_for_nobody_is_recognised(reader):
    marks = judged(SCENE, spliced(SCENE, with_act(SCENE, 3, cast=(0,)), 3), reader).marks
    assert (marks["identity"].hits, marks["identity"].of) == (2, 4), "either one returns in shot 4"


def test_what_two_shots_were_both_asked_for_does_not_leak(reader):
    scene = with_act(SCENE, 2, motion="still")
    assert judged(scene, draw(scene), reader).marks["free of leakage"].hits == 4


def test_a_cut_a_latent_late_is_no_cut(reader):
    moved = with_act(with_act(SCENE, 1, latents=3), 2, latents=2)
    marks = judged(SCENE, draw(moved), reader).marks
    assert (marks["cuts"].hits, marks["cuts"].of) == (0, 1)
