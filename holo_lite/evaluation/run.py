"""The gate's run: storyboards not used in training, made, read and marked one after the other.

It is a generator of events; closing it stops it, and what was yielded stays good. Storyboard i of a seed is the
same in every run, as is its noise, so a model and its baseline, or two runs a month apart, are compared in pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from torch import Tensor

from holo_lite.cancel import Cancel
from holo_lite.errors import SettingsError, first_three
from holo_lite.evaluation.cuts import find_cuts
from holo_lite.evaluation.likeness import likeness
from holo_lite.evaluation.marks import mark
from holo_lite.evaluation.outcome import EvaluationStarted, Event, Film, Outcome, StoryboardJudged, Verdict
from holo_lite.evaluation.reading import Reader
from holo_lite.evaluation.seeds import DEVELOPMENT
from holo_lite.evaluation.studio import Studio
from holo_lite.render.job import Job
from holo_lite.settings import NOTHING_SAID, Options, RunSettings
from holo_lite.tiny.words import VOCABULARY, storyboard
from holo_lite.tiny.world import Scene, random_scene

MOST_STORYBOARDS = 10_000


def scene_of(seed: int, index: int) -> Scene:
    """Storyboard `index` of a seed, of a kind that is never trained on."""
    return random_scene(np.random.default_rng([seed, index]), held_out=True)


def turns_of(storyboards: int, seeds: Sequence[int]) -> list[tuple[int, int]]:
    """Seed and number of so many storyboards, from the seeds in turn. Raises `SettingsError` for too many."""
    if not 1 <= storyboards <= MOST_STORYBOARDS:
        raise SettingsError(f"--storyboards {storyboards}: give a number from 1 to {MOST_STORYBOARDS}")
    return [(seeds[index % len(seeds)], index // len(seeds)) for index in range(storyboards)]


def evaluate(
    model: Studio,
    baseline: Studio | None = None,
    storyboards: int = 200,
    options: Options = NOTHING_SAID,
    seeds: Sequence[int] = DEVELOPMENT,
    cancel: Cancel | None = None,
) -> Generator[Event, None, None]:
    """Make and mark storyboards: `EvaluationStarted`, then `StoryboardJudged` for each.

    They are taken from the seeds in turn, and the scores are those of all. By the token `cancel`
    any thread ends it before the next storyboard. Raises, before the first event,
    `SettingsError` for what cannot be run.
    """
    turns = turns_of(storyboards, seeds)
    scenes = [scene_of(*turn) for turn in turns]
    noise = [seed + index for seed, index in turns]
    jobs = _jobs(model, scenes, noise, options)
    asked = jobs[0].settings
    reader = Reader.of(asked.height, asked.width)
    others = _jobs(baseline, scenes, noise, _plainly(asked)) if baseline else []
    return (cancel or Cancel()).between(_events(model, jobs, baseline, others, scenes, reader))


def judge(scene: Scene, frames: Tensor, reader: Reader) -> Verdict:
    """Read a clip (n, H, W, 3) uint8 and mark it."""
    pixels = frames.numpy()
    cuts = find_cuts(pixels)
    readings = tuple(reader.read(pixels[span.start : span.stop]) for span in scene.spans)
    return Verdict(cuts, readings, mark(scene, cuts, readings))


def unknown_words(tokenizer: Path) -> list[str]:
    """Words of the drawn world that a tokenizer.json has no token of their own for."""
    known = Tokenizer.from_file(str(tokenizer)).get_vocab()
    return sorted(word for word in VOCABULARY if word not in known)


def _jobs(studio: Studio, scenes: Sequence[Scene], noise: Sequence[int], options: Options) -> list[Job]:
    each = [dataclasses.replace(options, seed=seed) for seed in noise]
    return studio.prepare([storyboard(scene) for scene in scenes], each)


def _plainly(settings: RunSettings) -> Options:
    """A model's settings for its baseline, whose own defaults may be others. The baseline saves no forward."""
    names = ("height", "width", "steps", "cfg")
    return Options(**{name: getattr(settings, name) for name in names})


def _events(
    model: Studio, jobs: list[Job], baseline: Studio | None, others: list[Job], scenes: list[Scene], reader: Reader
) -> Generator[Event, None, None]:
    notes = [note for studio in (model, baseline) if studio for note in strangeness(studio)]
    lines = model.pipeline.model.setup.lines
    yield EvaluationStarted(len(scenes), jobs[0].settings, tuple(dict.fromkeys(notes)), lines)
    model.read(jobs)
    if baseline:
        baseline.read(others)
    for index, (scene, job) in enumerate(zip(scenes, jobs, strict=True)):
        film = model.film(job)
        verdict = judge(scene, film.frames, reader)
        judged = StoryboardJudged(Outcome(index, scene, job.settings, verdict, skipped=film.skipped), film)
        yield _beside(judged, baseline.film(others[index]), reader) if baseline else judged


def _beside(judged: StoryboardJudged, other: Film, reader: Reader) -> StoryboardJudged:
    """The same with the baseline's clip added."""
    film, outcome = judged.film, judged.outcome
    alike = likeness(film.frames, other.frames, film.latents, other.latents)
    verdict = judge(outcome.scene, other.frames, reader)
    return StoryboardJudged(dataclasses.replace(outcome, baseline=verdict, likeness=alike), film, other)


def strangeness(studio: Studio) -> list[str]:
    """A line about a model to which this world's words mean nothing."""
    folder = studio.pipeline.model.folder
    words = unknown_words(folder.tokenizer)
    if not words:
        return []
    said = first_three(f"'{word}'" for word in words)
    return [f"{folder.path} does not know the drawn world (it has no word for {said}): its scores mean nothing"]
