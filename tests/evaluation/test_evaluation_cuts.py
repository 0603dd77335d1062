"""Cuts are found from pixels alone, and nothing else is taken for one."""

import numpy as np
import pytest
from drawn import noisy, scenes

from holo_lite.evaluation.cuts import find_cuts
from holo_lite.tiny.drawing import draw
from holo_lite.tiny.world import Act, Character, Scene, Trait, Wall


def test_every_cut_of_drawn_scenes_is_found_and_no_other():
    for scene in scenes(40, seed=3):
        assert find_cuts(draw(scene)) == scene.cuts


@pytest.mark.parametrize("sigma", [0.02, 0.05])
def test_noise_hides_no_cut_and_makes_none(sigma):
    for scene in scenes(10, seed=4):
        assert find_cuts(noisy(draw(scene), sigma)) == scene.cuts


@pytest.mark.parametrize("speed", [1, 4, 9])
def test_fast_motion_is_not_taken_for_a_cut(speed):
    frames = np.full((20, 64, 112, 3), 30, np.uint8)
    for time, frame in enumerate(frames):
        frame[20:44, (speed * time) % 88 : (speed * time) % 88 + 24] = 250
    wrapped = {time for time in range(1, 20) if (speed * time) % 88 < speed}
    assert set(find_cuts(frames)) <= wrapped


def test_a_clip_without_cuts_has_none():
    scene = Scene(
        Wall("white", "dotted"),
        (Character("red", "cross", Trait(pale=False, spotted=True)),),
        (Act("close-up", "moving left", (0,), 5),),
    )
    assert find_cuts(draw(scene)) == ()
    assert find_cuts(np.zeros((9, 64, 112, 3), np.uint8)) == ()
    assert find_cuts(np.random.default_rng(0).integers(256, size=(17, 64, 112, 3), dtype=np.uint8)) == ()


def test_a_cut_smeared_over_two_frames_is_where_most_of_it_lies():
    frames = np.zeros((12, 64, 112, 3), np.uint8)
    frames[5], frames[6:] = 180, 240
    assert find_cuts(frames) == (5,)


def test_a_fade_is_no_cut():
    assert find_cuts(np.repeat(np.arange(0, 240, 12, dtype=np.uint8), 64 * 112 * 3).reshape(20, 64, 112, 3)) == ()
