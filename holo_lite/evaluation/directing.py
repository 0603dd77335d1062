"""The gate of directing: a film, then a shot of it again or more of its story, next to the same with nothing given.

It is a generator of events, as the gate's run is. A storyboard's scene, what it is asked for next and its noise
follow from seed and number alone. In an outcome the *baseline* is the same model with the same prompt and noise, of
which nothing is frozen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from holo_lite.cancel import Cancel
from holo_lite.config import TEXT_ROWS
from holo_lite.directing.retake import retaken
from holo_lite.errors import SettingsError
from holo_lite.evaluation.cuts import find_cuts
from holo_lite.evaluation.held_film import HeldFilm, continued
from holo_lite.evaluation.new_shots import Traits, mark_new, traits_shown
from holo_lite.evaluation.outcome import EvaluationStarted, Event, Film, Outcome, StoryboardJudged, Verdict
from holo_lite.evaluation.reading import Reader, Reading
from holo_lite.evaluation.redrawn import again, further
from holo_lite.evaluation.run import scene_of, strangeness, turns_of
from holo_lite.evaluation.seeds import DEVELOPMENT
from holo_lite.evaluation.studio import Studio
from holo_lite.render.job import Job
from holo_lite.settings import NOTHING_SAID, Options
from holo_lite.story.prompt import clean
from holo_lite.story.storyboard import Storyboard
from holo_lite.tiny.words import act_caption, storyboard
from holo_lite.tiny.world import Scene

Kind = Literal["retake", "extend"]
MOST_CHAINED = 10
NEXT = 1  # what is drawn for what comes after a film, next to its seed and number


@dataclass(frozen=True)
class Directing:
    """What becomes of each film. chain: how many continuations in a row; each has three new shots.

    Raises `SettingsError` for a chain of another length.
    """

    kind: Kind
    chain: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.chain <= MOST_CHAINED:
            raise SettingsError(f"--chain {self.chain}: give a number from 1 to {MOST_CHAINED}")


@dataclass(frozen=True)
class Made:
    """A film of a scene with its job, and what was read in it."""

    scene: Scene
    job: Job
    film: Film
    cuts: tuple[int, ...]
    readings: tuple[Reading, ...]

    @property
    def held(self) -> HeldFilm:
        """It as an old film."""
        return HeldFilm.of(self.film, self.job.settings)

    def verdict(self, new: Sequence[int], traits: Traits) -> Verdict:
        """Its new shots marked."""
        return Verdict(self.cuts, self.readings, mark_new(self.scene, self.cuts, self.readings, new, traits))


@dataclass(frozen=True)
class Set:
    """The studio and the reader, which make and read a film."""

    studio: Studio
    reader: Reader

    def make(self, scene: Scene, job: Job) -> Made:
        """Make and read one clip."""
        return self.read(scene, job, self.studio.film(job))

    def read(self, scene: Scene, job: Job, film: Film) -> Made:
        """Read a clip. One with a memory has three frames more in its first shot than its scene."""
        pixels = film.frames.numpy()
        spans, more = job.settings.shown.shot_frames, len(pixels) - scene.frames
        readings = tuple(self.reader.read(pixels[start:end]) for start, end in spans)
        cuts = tuple(cut - more for cut in find_cuts(pixels))
        return Made(scene, job, dataclasses.replace(film, frames=film.frames[more:]), cuts, readings)

    def has_room(self, board: Storyboard) -> bool:
        """Whether the model can read all of a storyboard's prompt."""
        return len(self.studio.pipeline.tokenizer.encode(clean(board.prompt)).ids) <= TEXT_ROWS


def evaluate_directing(
    directing: Directing,
    model: Studio,
    storyboards: int = 200,
    options: Options = NOTHING_SAID,
    seeds: Sequence[int] = DEVELOPMENT,
    cancel: Cancel | None = None,
) -> Generator[Event, None, None]:
    """Make films and direct them: `EvaluationStarted`, then `StoryboardJudged` for each.

    Raises, before the first event, `SettingsError` for what cannot be run.
    """
    turns = turns_of(storyboards, seeds)
    scenes = [scene_of(*turn) for turn in turns]
    each = [dataclasses.replace(options, seed=seed + index) for seed, index in turns]
    jobs = model.prepare([storyboard(scene) for scene in scenes], each)
    settings = jobs[0].settings
    stage = Set(model, Reader.of(settings.height, settings.width))
    return (cancel or Cancel()).between(_events(directing, stage, turns, scenes, jobs, each))


def _events(
    directing: Directing,
    stage: Set,
    turns: Sequence[tuple[int, int]],
    scenes: Sequence[Scene],
    jobs: Sequence[Job],
    options: Sequence[Options],
) -> Generator[Event, None, None]:
    lines = stage.studio.pipeline.model.setup.lines
    yield EvaluationStarted(len(scenes), jobs[0].settings, tuple(strangeness(stage.studio)), lines)
    stage.studio.read(jobs)
    for index, turn in enumerate(turns):
        rng = np.random.default_rng([*turn, NEXT])
        film = stage.make(scenes[index], jobs[index])
        if directing.kind == "retake":
            yield _retake(stage, film, options[index], index, rng)
        else:
            yield _extend(stage, film, options[index], index, rng, directing.chain)


def _retake(stage: Set, old: Made, options: Options, index: int, rng: np.random.Generator) -> StoryboardJudged:
    """One shot again from another seed, all others frozen; and nothing frozen."""
    place, scene = again(old.scene, rng)
    traits = traits_shown(old.scene, old.readings, but=place)
    board, given = retaken(old.held, {place + 1: act_caption(scene.acts[place])})
    said = dataclasses.replace(options, seed=old.job.settings.seed + 1)
    new = stage.make(scene, stage.studio.job(board, said, given))
    free = stage.make(scene, stage.studio.job(board, said))
    return _judged(index, new, new.verdict([place], traits), free, free.verdict([place], traits))


def _extend(
    stage: Set, old: Made, options: Options, index: int, rng: np.random.Generator, chain: int
) -> StoryboardJudged:
    """Continuations in a row, of which every one remembers the one before; and the first without memory."""
    traits = traits_shown(old.scene, old.readings)
    made = [old]
    for _ in range(chain):
        scene = further(made[-1].scene, rng)
        board, given = continued(made[-1].held, storyboard(scene), stage.has_room)
        made.append(stage.make(scene, stage.studio.job(board, options, given)))
    verdicts = [each.verdict(range(len(each.scene.acts)), traits) for each in made[1:]]
    marks = dict(verdicts[0].marks)
    for number, verdict in enumerate(verdicts[1:], start=2):
        marks |= {f"{name}, {number}": count for name, count in verdict.marks.items()}
    first = made[1]
    free = stage.make(first.scene, stage.studio.job(storyboard(first.scene), options))
    verdict = free.verdict(range(len(first.scene.acts)), traits)
    return _judged(index, first, dataclasses.replace(verdicts[0], marks=marks), free, verdict)


def _judged(index: int, new: Made, verdict: Verdict, free: Made, beside: Verdict) -> StoryboardJudged:
    outcome = Outcome(index, new.scene, new.job.settings, verdict, beside, skipped=new.film.skipped)
    return StoryboardJudged(outcome, new.film, free.film)
