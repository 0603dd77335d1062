"""Denoising under a plan: the sampler's loop, gone on with one rung down where memory runs out.

A step that failed is repeated from the latents before it, so nothing is lost and nothing is computed twice but that
step. The smaller plan is taken after the failed computation has been left entirely: an exception that is being
handled keeps its frames alive, and these keep the tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from holo_lite.errors import HoloError, RoomError
from holo_lite.events import Event, StepDone, SteppedDown
from holo_lite.model.clip import Clip
from holo_lite.plan.fit import Plan
from holo_lite.plan.ladder import is_out_of_memory, smaller_plan, with_less_pinned
from holo_lite.room import clear, most_used
from holo_lite.sampler import Guidance, Progress, sample
from holo_lite.schedule import Expert, Schedule
from holo_lite.settings import RunSettings
from holo_lite.streaming.experts import Residency, StreamedExperts


@dataclass(frozen=True)
class Denoiser:
    """What denoising needs besides its input."""

    paths: Mapping[Expert, Path]
    dtype: torch.dtype
    device: torch.device
    keep: Callable[[Plan], None] = lambda _: None  # told of every smaller plan

    def run(
        self, settings: RunSettings, guidance: Guidance, latents: Tensor, plan: Plan
    ) -> Generator[Event, None, tuple[Tensor, Plan]]:
        """Denoise latents (16, F, h, w), fp32, on the device. Returns the clean ones and the plan that did it.

        Raises `RoomError` when memory runs out at the lowest rung.
        """
        schedule = Schedule.of(settings.steps)
        done = 0
        while True:
            failure: HoloError | RuntimeError | None = None
            steps = self._steps(settings, guidance, latents, schedule, plan, done)
            try:
                for progress in steps:
                    latents, done = progress.latents, progress.step.index + 1
                    planned = plan.peak[progress.step.expert]
                    yield StepDone(progress, most_used(self.device), planned)
                return latents, plan
            except (RuntimeError, RoomError) as error:
                if not (isinstance(error, RoomError) or is_out_of_memory(error)):
                    raise
                failure = error.with_traceback(None)
            steps.close()
            clear(self.device)
            plan, change = _one_down(plan, failure)
            self.keep(plan)
            yield SteppedDown(plan, change)

    def _steps(
        self,
        settings: RunSettings,
        guidance: Guidance,
        latents: Tensor,
        schedule: Schedule,
        plan: Plan,
        first: int,
    ) -> Generator[Progress, None, None]:
        clip = Clip(settings.layout, settings.attention, plan.chunks)
        passes = 1 if plan.joint else len(guidance.contexts)
        with self._experts(schedule, first, passes, plan) as experts:
            yield from sample(experts, latents, guidance, schedule, clip, joint=plan.joint, first=first)

    def _experts(self, schedule: Schedule, first: int, passes: int, plan: Plan) -> StreamedExperts:
        """The experts for the steps that are left, held as the plan says."""
        forwards: dict[Expert, int] = {}
        for step in schedule.steps[first:]:
            forwards[step.expert] = forwards.get(step.expert, 0) + passes
        residency = Residency(
            resident=plan.resident,
            resident_other=plan.resident_other,
            slots=plan.slots,
            cached=plan.pinned_cache_blocks,
        )
        return StreamedExperts(self.paths, forwards, self.dtype, self.device, residency)


def _one_down(plan: Plan, failure: Exception) -> tuple[Plan, str]:
    pinned = with_less_pinned(plan) if isinstance(failure, RoomError) else None
    rung = pinned or smaller_plan(plan)
    if rung is None:
        raise RoomError(
            "memory ran out with the smallest chunks, no resident blocks and one guidance branch at a time; "
            "make the clip shorter or smaller, or close other programs"
        ) from failure
    return rung
