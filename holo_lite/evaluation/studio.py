"""Where films are made and read: a model opened once makes clip after clip, on the path that every run takes.

Plan, streaming, both guidance branches at once, hashes: a clip is what `Pipeline` makes, kept in memory. An
ablation, if one is given, changes what a job says of its clip and prompt, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from holo_lite.directing.direction import AnyFilm
from holo_lite.directing.given import Given
from holo_lite.evaluation.ablations import CLIPS, Ablation
from holo_lite.evaluation.cuts import find_cuts
from holo_lite.evaluation.held_film import HeldFilm
from holo_lite.evaluation.new_shots import Traits, mark_new
from holo_lite.evaluation.outcome import Film, Outcome, StoryboardJudged, Verdict
from holo_lite.evaluation.reading import Reader, Reading
from holo_lite.events import finish, latents_of
from holo_lite.render.job import Job
from holo_lite.render.pipeline import Pipeline
from holo_lite.render.sinks import MemorySink
from holo_lite.settings import Options
from holo_lite.story.storyboard import Storyboard
from holo_lite.tiny.world import Scene


@dataclass(frozen=True)
class Studio:
    """An opened model, and what of it is ablated."""

    pipeline: Pipeline
    ablation: Ablation | None = None

    def job(self, film: AnyFilm, options: Options, given: Given | None = None) -> Job:
        """Decide and check one run, with what is given of its clip. Raises what `Pipeline.prepare` does."""
        return ablated(self.pipeline.prepare(film, options, given), self.ablation)

    def prepare(self, boards: Sequence[Storyboard], options: Sequence[Options]) -> list[Job]:
        """Decide and check every run. Raises what `Pipeline.prepare` does."""
        return [self.job(board, each) for board, each in zip(boards, options, strict=True)]

    def read(self, jobs: Sequence[Job]) -> None:
        """Encode all prompts with the text encoder opened at most once; clips find them in the cache."""
        for _ in self.pipeline.read_ahead(jobs):
            pass

    def film(self, job: Job) -> Film:
        """Make one clip."""
        done, sink = latents_of(self.pipeline.denoise(job)), MemorySink()
        finish(self.pipeline.decode(done, sink))
        return Film(sink.tensor(), done.latents.cpu(), len(done.plan.skipped))


def ablated(job: Job, ablation: Ablation | None) -> Job:
    """The job with this part taken out; without windows every shot reads the whole prompt."""
    prompt = replace(job.prompt, windows=None) if ablation == "windows" else job.prompt
    return replace(job, prompt=prompt, clip=CLIPS[ablation])


@dataclass(frozen=True)
class Turn:
    """One storyboard in its turn: its scene, the run of it as it is, its options, and its own random numbers."""

    index: int
    scene: Scene
    job: Job
    options: Options
    rng: np.random.Generator


@dataclass(frozen=True)
class Made:
    """A film of a scene with its job, and what was read in it. One with a memory has three frames more."""

    scene: Scene
    job: Job
    film: Film
    cuts: tuple[int, ...]
    readings: tuple[Reading, ...]

    @property
    def held(self) -> HeldFilm:
        """It as an old film."""
        return HeldFilm.of(self.film, self.job.settings)

    @property
    def shown(self) -> Film:
        """It as long as its scene, to be seen next to a drawing of that."""
        return replace(self.film, frames=self.film.frames[-self.scene.frames :])

    def verdict(self, new: Sequence[int], traits: Traits) -> Verdict:
        """Its new shots marked."""
        return Verdict(self.cuts, self.readings, mark_new(self.scene, self.cuts, self.readings, new, traits))


@dataclass(frozen=True)
class Set:
    """The studio and the reader, which make and read a film. alone: films are not compared with any other."""

    studio: Studio
    reader: Reader
    alone: bool = False

    def make(self, scene: Scene, job: Job) -> Made:
        """Make and read one clip."""
        return self.read(scene, job, self.studio.film(job))

    def make_free(self, scene: Scene, job: Callable[[], Job]) -> Made | None:
        """A clip to compare with, with nothing given; None where films are judged alone."""
        return None if self.alone else self.make(scene, job())

    def read(self, scene: Scene, job: Job, film: Film) -> Made:
        """Read a clip. One with a memory has three frames more in its first shot than its scene."""
        pixels = film.frames.numpy()
        spans, more = job.settings.shown.shot_frames, len(pixels) - scene.frames
        readings = tuple(self.reader.read(pixels[start:end]) for start, end in spans)
        return Made(scene, job, film, tuple(cut - more for cut in find_cuts(pixels)), readings)

    def size(self, job: Job) -> tuple[int, int]:
        """Height and width of a job's frames."""
        return job.settings.height, job.settings.width


def judged(turn: Turn, new: Made, free: Made | None, mark: Callable[[Made], Verdict]) -> StoryboardJudged:
    """A film, marked, and next to it the one with nothing given, if there is one."""
    beside = mark(free) if free else None
    outcome = Outcome(turn.index, new.scene, new.job.settings, mark(new), beside, skipped=new.film.skipped)
    return StoryboardJudged(outcome, new.shown, free.shown if free else None)
