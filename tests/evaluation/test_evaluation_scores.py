"""Intervals against known values and against chance itself; likeness against the definition."""

import math

import numpy as np
import pytest
import torch

from holo_lite.evaluation.likeness import MOST_DB, likeness, psnr, relative_error, ssim
from holo_lite.evaluation.marks import SCORES, Count, mean_of
from holo_lite.evaluation.scores import mean, ratio, ratios, score, score_all, wilson


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (200, 200, 0.9812, 1.0)]
)
def test_wilson_is_wilsons(hits, of, low, high):
    assert wilson(hits / of, of) == pytest.approx((low, high), abs=1e-4)


def test_chances_that_go_together_count_as_one():
    together = [Count(4 * (index % 2), 4) for index in range(50)]
    alone = [Count(2, 4)] * 50
    assert score(together).of == score(alone).of == 200
    assert score(together).share.low == pytest.approx(wilson(0.5, 50)[0], abs=0.003)
    assert score(alone).share.low == pytest.approx(wilson(0.5, 200)[0])


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        rates = rng.beta(4, 1, 60)  # storyboards are easy or hard; 0.8 in the mean
        share = score([Count(int(rng.binomial(4, rate)), 4) for rate in rates]).share
        held += share.low <= 0.8 <= share.high
    assert 180 <= held < 200


def test_ratios_are_paired():
    hard = [Count(index % 5, 4) for index in range(60)]
    assert ratio(hard, hard) == pytest.approx(ratio(hard, hard))
    same = ratio(hard, hard)
    assert (same.value, same.low, same.high) == (1, 1, 1), "what is hard for both is no difference"
    worse = ratio([Count(max(0, count.hits - 1), 4) for count in hard], hard)
    assert worse.low < worse.value < worse.high < 1
    assert worse.value == pytest.approx(0.6)


def test_scores_without_a_chance_are_left_out():
    marks = [{name: Count(0, 0 if name == "trait" else 2) for name in SCORES}]
    assert set(score_all(marks)) == {*SCORES} - {"trait"}
    assert ratios(marks, marks) == {}, "nothing is a multiple of no hit"
    assert mean_of(marks[0]) == 0


def test_the_mean_has_an_interval_around_it():
    found = mean([1.0, 2.0, 3.0, 4.0])
    assert found.value == 2.5
    assert 1 <= found.low < 2.5 < found.high <= 4


def clip(seed):
    return torch.from_numpy(np.random.default_rng(seed).integers(256, size=(2, 20, 24, 3), dtype=np.uint8))


def test_identical_clips_are_alike():
    latents = torch.randn(16, 2, 4, 4)
    found = likeness(clip(0), clip(0), latents, latents)
    assert (found.psnr, found.latents) == (MOST_DB, 0)
    assert found.ssim == pytest.approx(1, abs=1e-6)


def test_psnr_of_a_known_difference():
    frames = torch.full((2, 16, 16, 3), 100, dtype=torch.uint8)
    assert psnr(frames, frames + 51) == pytest.approx(-20 * math.log10(0.2), abs=1e-4)


def test_ssim_of_two_greys_is_that_of_their_light():
    one, other = (torch.full((1, 16, 16, 3), level, dtype=torch.uint8) for level in (51, 204))
    assert ssim(one, other) == pytest.approx((2 * 0.2 * 0.8 + 1e-4) / (0.2**2 + 0.8**2 + 1e-4), abs=1e-5)


def test_ssim_is_its_definition_at_every_place():
    one, other = clip(1), clip(2)
    places = np.arange(-5, 6)
    line = np.exp(-(places**2) / 4.5)
    window = np.outer(line, line) / line.sum() ** 2
    found = []
    for x, y in zip(one.numpy() / 255, other.numpy() / 255, strict=True):
        for row in range(10):
            for column in range(14):
                a, b = (part[row : row + 11, column : column + 11] for part in (x, y))
                found.extend(ssim_at(a[..., c], b[..., c], window) for c in range(3))
    assert ssim(one, other) == pytest.approx(np.mean(found), abs=1e-5)


def ssim_at(a, b, window):
    mean_a, mean_b = (window * a).sum(), (window * b).sum()
    var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
    cov = (window * (a - mean_a) * (b - mean_b)).sum()
    light = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
    return light * (2 * cov + 9e-4) / (var_a + var_b + 9e-4)


def test_relative_error_is_relative_to_the_baseline():
    assert relative_error(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 0.0])) == pytest.approx(4 / 3)
