"""A model opened once, which makes clip after clip in memory.

What the pipeline does for one video, without an mp4: both experts and the decoder stay open between storyboards
where they fit, and all prompts are encoded together, through the pipeline's own cache. Clip and guidance are those
of an ablation, if one is given.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar, cast

import torch
from torch import Tensor

from holo_lite.config import Expert
from holo_lite.evaluation.ablations import CLIPS, Ablation, ablated_guidance
from holo_lite.evaluation.file_experts import FileExperts
from holo_lite.events import Event
from holo_lite.film.vae import Vae, decode_frames, load_vae, to_uint8
from holo_lite.model.dit import WanDiT
from holo_lite.plan.sizes import StackSizes
from holo_lite.render.pipeline import Job, Pipeline
from holo_lite.render.text_phase import Encoding
from holo_lite.sampling.sampler import Experts, Guidance, initial_noise, sample
from holo_lite.sampling.schedule import Schedule
from holo_lite.sampling.step_cache import StepCache
from holo_lite.settings import Options
from holo_lite.story.storyboard import Storyboard

Result = TypeVar("Result")

ROOM_FOR_EXPERTS = 0.5  # of what is free; the rest is for activations and the decoder


@dataclass(frozen=True)
class Film:
    """A clip in memory: frames (n, H, W, 3) uint8 and the latents (16, F, h, w) they were decoded from.

    `skipped` is how many of its steps the step cache has saved.
    """

    frames: Tensor
    latents: Tensor
    skipped: int = 0


@dataclass(frozen=True)
class HeldExperts:
    """Lends both experts and keeps them open."""

    files: FileExperts
    opened: dict[Expert, WanDiT] = field(default_factory=dict)

    @contextmanager
    def lend(self, expert: Expert) -> Iterator[WanDiT]:
        """Open an expert at most once."""
        if expert not in self.opened:
            with self.files.lend(expert) as model:
                self.opened[expert] = model
        yield self.opened[expert]

    def skip(self, expert: Expert, forwards: int) -> None:
        """Whole experts have nothing on its way."""


@dataclass(frozen=True)
class Studio:
    """An opened model, and what of it is ablated."""

    pipeline: Pipeline
    experts: Experts
    vae: Vae
    ablation: Ablation | None = None

    @classmethod
    def open(cls, pipeline: Pipeline, ablation: Ablation | None = None) -> Studio:
        """Open the decoder now and the experts when they are first used. Raises `CheckpointError`."""
        folder, device = pipeline.folder, pipeline.device
        files = FileExperts(
            folder.high_noise,
            folder.low_noise,
            pipeline.dtype,
            device,
            compute=pipeline.computing.compute,
            adapters=pipeline.adapters.by_expert,
        )
        precision = pipeline.dtype if device.type == "cuda" else torch.float32  # a CPU convolves fp32 faster
        vae = load_vae(folder.vae, dtype=precision, device=device)
        return cls(pipeline, HeldExperts(files) if experts_fit(pipeline) else files, vae, ablation)

    def prepare(self, boards: Sequence[Storyboard], options: Sequence[Options]) -> list[Job]:
        """Decide and check every run. Raises what `Pipeline.prepare` does."""
        return [self.pipeline.prepare(board, said) for board, said in zip(boards, options, strict=True)]

    def read(self, jobs: Sequence[Job]) -> Iterator[Guidance]:
        """Encode all prompts, the text encoder opened at most once, then give each run's guidance."""
        encoding = self.encoding
        prompts = list(dict.fromkeys(prompt for job in jobs for prompt in job.prompts))
        rows = dict(zip(prompts, _end_of(encoding.rows(prompts, jobs[0].plan))[0], strict=True))
        for job in jobs:
            contexts = [encoding.context(rows[prompt], prompt) for prompt in job.prompts]
            yield ablated_guidance(Guidance.of(contexts, job.settings.cfg, job.settings.cfg_until), self.ablation)

    @property
    def encoding(self) -> Encoding:
        """Reads prompts as the pipeline does."""
        return Encoding(self.pipeline.folder.text_encoder, self.pipeline.dtype, self.pipeline.device)

    def film(self, job: Job, guidance: Guidance) -> Film:
        """Make one clip."""
        settings, device = job.settings, self.pipeline.device
        clip = CLIPS[self.ablation](settings.layout, settings.attention, job.plan.chunks)
        latents = initial_noise(clip, settings.seed).to(device)
        schedule, cache, skipped = Schedule.of(settings.steps), StepCache.of(settings.cache), 0
        for progress in sample(self.experts, latents, guidance, schedule, clip, cache=cache):
            latents, skipped = progress.latents, skipped + progress.skipped
        with torch.inference_mode():
            frames = torch.stack([to_uint8(frame) for frame in decode_frames(self.vae, latents)])
        return Film(frames, latents.cpu(), skipped)


def _end_of(events: Generator[Event, None, Result]) -> Result:
    """The result of a run whose events are not shown."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            return cast(Result, end.value)


def experts_fit(pipeline: Pipeline) -> bool:
    """Whether both experts can stay in memory; if the free memory is unknown, they do not."""
    machine = pipeline.machine
    free = machine.free if pipeline.device.type == "cuda" else machine.ram_free
    taken = sum(_bytes(stack) for stack in (pipeline.sizes.high_noise, pipeline.sizes.low_noise))
    return free is not None and taken <= ROOM_FOR_EXPERTS * free


def _bytes(stack: StackSizes) -> int:
    return stack.rest + sum(stack.blocks) + stack.adapters
