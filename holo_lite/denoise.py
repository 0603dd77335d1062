"""Denoising under a plan: the sampler's loop, gone on with one rung down where memory runs out.

A step that failed is repeated from the latents before it, so nothing is lost and nothing is computed twice but that
step. The experts' memory outlives the failure: what a smaller plan keeps is not read again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from holo_lite.errors import RoomError
from holo_lite.events import Event, StepDone
from holo_lite.model.clip import Clip
from holo_lite.plan.fit import Plan
from holo_lite.plan.ladder import Shortage, smaller_plan, with_less_pinned
from holo_lite.room import most_used
from holo_lite.sampler import Guidance, sample
from holo_lite.schedule import Expert, Schedule
from holo_lite.settings import RunSettings
from holo_lite.stepping import Stairs
from holo_lite.streaming.experts import StreamedExperts
from holo_lite.streaming.places import Residency


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
        forwards = forwards_left(schedule, 0, 1)
        stairs = Stairs(self.device, _one_down, self.keep)
        with StreamedExperts(self.paths, forwards, self.dtype, self.device) as experts:
            denoising = Denoising(settings, guidance, experts, self.device, latents)
            _, plan = yield from stairs.run(denoising.go_on, plan, lambda: f"step {denoising.done + 1}")
        return denoising.latents, plan


@dataclass
class Denoising:
    """How far a run is: the latents after so many steps. `go_on` may fail and be called again with another plan."""

    settings: RunSettings
    guidance: Guidance
    experts: StreamedExperts
    device: torch.device
    latents: Tensor
    done: int = 0

    def go_on(self, plan: Plan) -> Generator[Event, None, None]:
        """Run the steps that are left."""
        schedule = Schedule.of(self.settings.steps)
        passes = 1 if plan.joint else len(self.guidance.contexts)
        self.experts.change(forwards_left(schedule, self.done, passes), residency_of(plan))
        clip = Clip(self.settings.layout, self.settings.attention, plan.chunks)
        steps = sample(self.experts, self.latents, self.guidance, schedule, clip, joint=plan.joint, first=self.done)
        with closing(steps):
            start = time.perf_counter()
            for progress in steps:
                waited = self.experts.waited()  # and with it the step is done
                seconds = time.perf_counter() - start
                self.latents, self.done = progress.latents, progress.step.index + 1
                yield StepDone(progress, most_used(self.device), plan.peak[progress.step.expert], seconds, waited)
                start = time.perf_counter()


def forwards_left(schedule: Schedule, first: int, passes: int) -> dict[Expert, int]:
    """Forwards of each expert in the steps from `first` on, at so many a step."""
    forwards: dict[Expert, int] = {}
    for step in schedule.steps[first:]:
        forwards[step.expert] = forwards.get(step.expert, 0) + passes
    return forwards


def residency_of(plan: Plan) -> Residency:
    """Where a plan keeps blocks."""
    return Residency(
        resident=plan.resident,
        resident_other=plan.resident_other,
        slots=plan.slots,
        cached=plan.pinned_cache_blocks,
        pinned=plan.pinned_ring,
    )


def _one_down(plan: Plan, shortage: Shortage) -> tuple[Plan, str]:
    rung = with_less_pinned(plan) if shortage == "pinned" else smaller_plan(plan)
    if rung is None:
        raise RoomError(
            "memory ran out with the smallest chunks, no resident blocks and one guidance branch at a time; "
            "make the clip shorter or smaller, or close other programs"
        )
    return rung
