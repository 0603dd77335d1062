"""What the gate reports: clips, what is read from them, and the events of its run."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from holo_lite.evaluation.likeness import Likeness
from holo_lite.evaluation.marks import Marks
from holo_lite.evaluation.reading import Reading
from holo_lite.settings import RunSettings
from holo_lite.tiny.world import Scene


@dataclass(frozen=True)
class Film:
    """A clip in memory: frames (n, H, W, 3) uint8 and the latents (16, F, h, w) they were decoded from.

    `skipped` is how many of its steps the step cache has saved.
    """

    frames: Tensor
    latents: Tensor
    skipped: int = 0


@dataclass(frozen=True)
class Verdict:
    """What one model's clip shows: the cuts found, a reading a shot, and the marks for them."""

    cuts: tuple[int, ...]
    readings: tuple[Reading, ...]
    marks: Marks


@dataclass(frozen=True)
class EvaluationStarted:
    """Everything is decided, and no clip made. settings: of the first one; notes are for people.

    computing: how the model computes, a line a choice.
    """

    storyboards: int
    settings: RunSettings
    notes: tuple[str, ...]
    computing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """A storyboard and what became of it. `baseline` and `likeness` are there if a baseline is.

    `skipped`: how many steps the step cache has saved the model. `apart`: of a shot that begins with a picture, how
    far its first frame is from it, the mean over the pixels, of 255.
    """

    index: int
    scene: Scene
    settings: RunSettings
    verdict: Verdict
    baseline: Verdict | None = None
    likeness: Likeness | None = None
    skipped: int = 0
    apart: float | None = None


@dataclass(frozen=True)
class StoryboardJudged:
    """A storyboard is made and marked."""

    outcome: Outcome
    film: Film
    baseline_film: Film | None = None


Event = EvaluationStarted | StoryboardJudged
