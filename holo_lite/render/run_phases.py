"""The phases of a run, one network in memory at a time: prompts and what is given, the experts, the decoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from holo_lite.cancel import Cancel
from holo_lite.errors import OutputError
from holo_lite.events import Event, Finished, LatentsDone, NoLatents, PhaseStarted
from holo_lite.opening.model import OpenedModel
from holo_lite.plan.plan import Plan
from holo_lite.ranks.team import Team
from holo_lite.render.decode_phase import FrameDecoder
from holo_lite.render.denoise_phase import Denoiser, restored_cache
from holo_lite.render.device_memory import clear
from holo_lite.render.given_phase import First, GivenReader
from holo_lite.render.job import Job
from holo_lite.render.keeper import Keeper
from holo_lite.render.leading import Task, led
from holo_lite.render.retry import KeepPlan
from holo_lite.render.sinks import FilmSink, FrameSink
from holo_lite.render.text_phase import PromptReader
from holo_lite.render.together import ByItself, Together
from holo_lite.sampling.sampler import Context, Guidance
from holo_lite.settings import RunSettings
from holo_lite.weights.audit import Audit


@dataclass(frozen=True)
class RunPhases:
    """What an opened model computes of a run."""

    model: OpenedModel
    team: Team | None = None

    def denoise(self, job: Job, keeper: Keeper, audit: Audit) -> Generator[Event, None, tuple[Tensor, Plan]]:
        """Do the steps that are left, with a plan that gets smaller where memory runs out.

        A step is saved once the weights it was computed with are known to be whole.
        """
        before, steps = keeper.take(), job.settings.steps
        done = before.done if before else 0
        if before and done == steps:
            return before.latents.to(self.model.device), job.plan
        first = yield from self._given_reader.first(job, before, partial(audit.settle, self.model.folder.vae))
        contexts, plan = yield from self.reader(job, audit).contexts(job.prompts, first.plan)
        clear(self.model.device)  # what the encoder leaves serves no expert, and would be in the way later
        experts = [self.model.folder.experts[step.expert] for step in job.settings.schedule]
        audit.streamed(*dict.fromkeys(experts[done:]), rest=True)
        audit.begin(self.model.folder.vae)
        yield PhaseStarted("denoise", steps, done)

        def settle(done: int) -> None:
            audit.settle(experts[done - 1])

        with self._together(job, contexts, first) as together:
            denoiser = Denoiser(
                self.model.experts,
                job.settings,
                Guidance.of(contexts, job.settings.cfg, job.settings.cfg_until, job.settings.cfg_low),
                first.latents,
                done,
                restored_cache(job.settings, before.cache if before else {}, self.model.device),
                keeper.save,
                job.remembered.keep,
                job.clip,
                job.cancel,
                first.frozen,
                audit.saw,
                settle,
                together,
            )
            del before, first, contexts  # they are on the device from here on
            plan = yield from denoiser.run(plan)
        return denoiser.latents, plan

    def _together(self, job: Job, contexts: Sequence[Context], first: First) -> AbstractContextManager[Together]:
        """Whoever computes the steps: this process alone, or its team, who are told of them."""
        if self.team is None or job.spread is None:
            return nullcontext(ByItself())
        task = Task(job.settings, self.model.recorded, job.spread)
        return led(self.team, task, contexts, first.frozen)

    def decode(
        self, done: LatentsDone, sink: FrameSink, audit: Audit, keeper: Keeper, decoder: FrameDecoder
    ) -> Generator[Event, None, Finished]:
        """Load the decoder, decode, and let go of what was kept. Returns how it ended."""
        yield PhaseStarted("load", 0, subject="the decoder")
        clear(self.model.device)
        settle = partial(audit.settle, self.model.folder.vae)
        settle()
        decoder = dataclasses.replace(decoder, settle=settle)
        settings = yield from decoder.run(done.settings, done.latents, done.plan, sink)
        yield from _kept(done.latents, settings, sink)
        keeper.finish()
        return sink.finished(settings)

    @property
    def _given_reader(self) -> GivenReader:
        vae = self.model.folder.vae
        return GivenReader(vae, self.model.decode_dtype, self.model.device)

    def reader(self, job: Job, audit: Audit) -> PromptReader:
        """What reads the prompts of a job."""
        encoder = self.model.folder.text_encoder
        return PromptReader(encoder, self.model.dtype, self.model.device, audit, job.remembered.keep, job.cancel)

    def decoder(self, keep: KeepPlan = lambda _: None, cancel: Cancel | None = None) -> FrameDecoder:
        """What decodes; `keep` is called with every smaller plan."""
        vae, dtype = self.model.folder.vae, self.model.decode_dtype
        return FrameDecoder(vae, dtype, self.model.device, keep, cancel or Cancel())


def _kept(latents: Tensor, settings: RunSettings, sink: FrameSink) -> Iterator[Event]:
    """Keep the latents of a video. It matters more than they do, and is there."""
    try:
        if isinstance(sink, FilmSink):
            sink.keep_latents(latents, settings)
    except OutputError as error:
        yield NoLatents(str(error))
