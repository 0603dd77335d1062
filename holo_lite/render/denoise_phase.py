"""Denoising under a plan: the sampler's loop, continued one rung down when memory runs out.

A step that failed is repeated from the latents before it, so nothing is lost and nothing is computed twice but that
step. The step cache is that of the last step that was done, too, so the repeated step is decided as it was before.
The experts' memory outlives the failure: what a smaller plan keeps is not read again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from holo_lite.config import Expert
from holo_lite.errors import RoomError
from holo_lite.events import Event, StepDone
from holo_lite.lora.adaptation import Adaptation
from holo_lite.model.clip import Clip
from holo_lite.model.compute import PLAIN, Compute
from holo_lite.plan.fit import Plan
from holo_lite.plan.ladder import Shortage, smaller_plan, with_less_pinned
from holo_lite.render.device_memory import most_used
from holo_lite.render.keeper import Save
from holo_lite.render.retry import OomRetry
from holo_lite.runs.state import Cache, State
from holo_lite.sampling.sampler import Guidance, Progress, sample
from holo_lite.sampling.schedule import Schedule
from holo_lite.sampling.step_cache import StepCache
from holo_lite.settings import RunSettings
from holo_lite.streaming.experts import StreamedExperts
from holo_lite.streaming.residency import Residency

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Denoiser:
    """What denoising needs in addition to its input."""

    paths: Mapping[Expert, Path]
    dtype: torch.dtype
    device: torch.device
    keep: Callable[[Plan], None] = lambda _: None  # told of every smaller plan
    adapters: Mapping[Expert, Adaptation] = field(default_factory=dict)
    save: Save = lambda _: ()  # called after every step
    compute: Compute = PLAIN

    def run(
        self,
        settings: RunSettings,
        guidance: Guidance,
        latents: Tensor,
        plan: Plan,
        done: int = 0,
        cached: Cache = MappingProxyType({}),
    ) -> Generator[Event, None, tuple[Tensor, Plan]]:
        """Denoise latents (16, F, h, w), fp32, on the device. Returns the clean ones and the plan that did it.

        The latents are those after `done` steps, and `cached` what the step cache then had. Raises `RoomError` when
        memory runs out at the lowest rung.
        """
        schedule, cache = Schedule.of(settings.steps), StepCache.of(settings.cache)
        cache.restore(cached, schedule, self.device)
        del cached
        forwards = forwards_left(schedule, done, guidance, joint=plan.joint)
        retry = OomRetry(self.device, _one_down, self.keep)
        streamed = StreamedExperts(
            self.paths, forwards, self.dtype, self.device, compute=self.compute, adapters=self.adapters
        )
        with streamed as experts:
            denoising = Denoising(
                settings, guidance, experts, self.device, latents, done, self.save, cache, plan.skipped
            )
            _, plan = yield from retry.run(denoising.go_on, plan, lambda: f"step {denoising.done + 1}")
        return denoising.latents, replace(plan, skipped=denoising.skipped)


@dataclass
class Denoising:
    """How far a run is: its latents after the last step, which steps were skipped, and the step cache.

    `go_on` may fail and be called again with another plan.
    """

    settings: RunSettings
    guidance: Guidance
    experts: StreamedExperts
    device: torch.device
    latents: Tensor
    done: int = 0
    save: Save = lambda _: ()
    cache: StepCache = field(default_factory=StepCache)
    skipped: tuple[int, ...] = ()  # by index

    def go_on(self, plan: Plan) -> Generator[Event, None, None]:
        """Run the steps that are left."""
        if not plan.step_cache:
            self.cache = StepCache()
        with closing(self._steps(plan)) as steps:
            start = time.perf_counter()
            for progress in steps:
                waited = self.experts.waited()  # and with it the step is done
                seconds = time.perf_counter() - start
                logger.debug("step %d: %.3f s, %.3f s waiting", progress.step.index + 1, seconds, waited)
                yield from self.save(self._keep(progress, plan))
                yield StepDone(progress, most_used(self.device), plan.peak[progress.step.expert], seconds, waited)
                start = time.perf_counter()

    def _steps(self, plan: Plan) -> Generator[Progress, None, None]:
        schedule = Schedule.of(self.settings.steps)
        forwards = forwards_left(schedule, self.done, self.guidance, joint=plan.joint)
        self.experts.change(forwards, residency_of(plan))
        clip = Clip(self.settings.layout, self.settings.attention, plan.chunks)
        return sample(
            self.experts,
            self.latents,
            self.guidance,
            schedule,
            clip,
            joint=plan.joint,
            first=self.done,
            cache=self.cache,
        )

    def _keep(self, progress: Progress, plan: Plan) -> State:
        """A step is done: the next begins here. → what there is to save of it."""
        self.latents, self.done = progress.latents, progress.step.index + 1
        self.cache.computed = progress.computed
        self.skipped += (progress.step.index,) if progress.skipped else ()
        return State(self.done, self.latents, replace(plan, skipped=self.skipped), self.cache.state())


def forwards_left(schedule: Schedule, first: int, guidance: Guidance, *, joint: bool) -> dict[Expert, int]:
    """Forwards of each expert in the steps from `first` on, if none is skipped."""
    forwards: dict[Expert, int] = {}
    for step in schedule.steps[first:]:
        passes = 1 if joint else len(guidance.at(step, schedule).contexts)
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
