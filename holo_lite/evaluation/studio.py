"""A model opened once, which makes clip after clip in memory, on the path that every run takes.

Plan, streaming, both guidance branches at once, hashes: a clip is what `Pipeline` makes, kept in memory. An
ablation, if one is given, changes what a job says of its clip and prompt, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from holo_lite.directing.direction import AnyFilm
from holo_lite.directing.given import Given
from holo_lite.evaluation.ablations import CLIPS, Ablation
from holo_lite.evaluation.outcome import Film
from holo_lite.events import finish, latents_of
from holo_lite.render.job import Job
from holo_lite.render.pipeline import Pipeline
from holo_lite.render.sinks import MemorySink
from holo_lite.settings import Options
from holo_lite.story.storyboard import Storyboard


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
