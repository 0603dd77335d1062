"""Scores over many storyboards, each with its 95 % interval.

Shots of one storyboard succeed and fail together, so they say less than as many shots of as many storyboards
would. The interval is Wilson's, which stays honest near 0 and 1, on the number of independent chances that the
storyboards' spread shows there to be. A ratio to a baseline has an interval from resampling storyboards in pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from holo_lite.evaluation.marks import Count, Marks

Z = 1.96
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Score:
    """A share from 0 to 1 of `of` chances."""

    share: Estimate
    of: int


def score_all(marks: Sequence[Marks]) -> dict[str, Score]:
    """Every score of these storyboards; one without a chance in any of them is left out."""
    columns = {name: [each[name] for each in marks] for name in marks[0]}
    return {name: score(counts) for name, counts in columns.items() if any(count.of for count in counts)}


def score(counts: Sequence[Count]) -> Score:
    """One score from its counts, one a storyboard."""
    hits, of = _columns(counts)
    share = float(hits.sum() / of.sum())
    low, high = wilson(share, of.sum() / _design_effect(hits, of, share))
    return Score(Estimate(share, low, high), int(of.sum()))


def wilson(share: float, chances: float) -> tuple[float, float]:
    """Ends of Wilson's interval around a share of `of` independent chances."""
    spread = Z**2 / chances
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def ratios(marks: Sequence[Marks], baseline: Sequence[Marks]) -> dict[str, Estimate]:
    """Each score by the baseline's on the same storyboards; one that the baseline never scored is left out."""
    pairs = {name: ([each[name] for each in marks], [each[name] for each in baseline]) for name in baseline[0]}
    return {name: ratio(*pair) for name, pair in pairs.items() if any(count.hits for count in pair[1])}


def ratio(counts: Sequence[Count], baseline: Sequence[Count]) -> Estimate:
    """A score by the baseline's. Chances are the same in both, so hits are enough."""
    above, below = _columns(counts)[0], _columns(baseline)[0]
    picks = _resamples(len(above))
    some = below[picks].sum(1) > 0
    drawn = above[picks].sum(1)[some] / below[picks].sum(1)[some]
    return Estimate(float(above.sum() / below.sum()), *_ends(drawn))


def mean(values: Sequence[float]) -> Estimate:
    """The mean of one number a storyboard."""
    column = np.array(values, np.float64)
    return Estimate(float(column.mean()), *_ends(column[_resamples(len(column))].mean(1)))


def _columns(counts: Sequence[Count]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array([count.hits for count in counts], float), np.array([count.of for count in counts], float)


def _design_effect(hits: NDArray[np.float64], of: NDArray[np.float64], share: float) -> float:
    """How many times as much a share varies between storyboards as it would if all chances were independent."""
    groups = np.count_nonzero(of)
    if groups < 2 or share in {0.0, 1.0}:
        return 1.0
    between = groups / (groups - 1) * np.square(hits - share * of).sum() / of.sum() ** 2
    return max(1.0, float(between / (share * (1 - share) / of.sum())))


def _resamples(count: int) -> NDArray[np.int64]:
    """Storyboards drawn with replacement, the same every time. → (RESAMPLES, count)."""
    return np.random.default_rng(0).integers(count, size=(RESAMPLES, count))


def _ends(drawn: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)
