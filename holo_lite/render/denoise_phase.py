"""Denoising under a plan: the sampler's loop, continued one rung down when memory runs out.

A step that failed is repeated from the latents before it, so nothing is lost and nothing is computed twice but that
step. The step cache is that of the last step that was done, too, so the repeated step is decided as it was before.
The experts' memory outlives the failure: what a smaller plan keeps is not read again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from holo_lite.cancel import Cancel
from holo_lite.config import Expert
from holo_lite.errors import RoomError
from holo_lite.events import Event, StepDone
from holo_lite.model.clip import Clip, MakeClip
from holo_lite.plan.ladder import Shortage, smaller_plan, with_less_pinned
from holo_lite.plan.plan import Plan
from holo_lite.render.device_memory import most_used
from holo_lite.render.profiling import profiled
from holo_lite.render.retry import KeepPlan, OomRetry
from holo_lite.render.together import ByItself, Together
from holo_lite.runs.state import Cache, State
from holo_lite.sampling.frozen import FrozenLatents
from holo_lite.sampling.meeting import Meeting
from holo_lite.sampling.sampler import Given, Guidance, Progress, nothing_given, sample
from holo_lite.sampling.schedule import Schedule
from holo_lite.sampling.step_cache import StepCache
from holo_lite.settings import RunSettings
from holo_lite.streaming.disk import Witness, nobody
from holo_lite.streaming.experts import ExpertSetup, StreamedExperts
from holo_lite.streaming.residency import Residency
from holo_lite.system.pinning import pinned_is_scarce

logger = logging.getLogger(__name__)
Save = Callable[[State], Iterable[Event]]
Branches = Callable[[int], Sequence[int]]


@dataclass
class Denoiser:
    """The denoising of one run: what its steps need, and how far it is.

    latents: (16, F, h, w) fp32 on the device, after `done` steps; cache: what the step cache had then. save: called
    after every step; keep: called with every smaller plan. clip: who attends to whom, from layout, attention and
    chunks; frozen: what is given of the latents; witness: is shown what is read of the experts; settle: called
    after every step with how many are done, before it is saved, and raises where weights were not what they should
    be; together: who else computes these steps.
    """

    setup: ExpertSetup
    settings: RunSettings
    guidance: Guidance
    latents: Tensor
    done: int = 0
    cache: StepCache = field(default_factory=StepCache)
    save: Save = lambda _: ()
    keep: KeepPlan = lambda _: None
    clip: MakeClip = Clip
    cancel: Cancel = field(default_factory=Cancel)  # asked before every block
    frozen: FrozenLatents | None = None
    witness: Witness = nobody
    settle: Callable[[int], None] = lambda _: None
    together: Together = field(default_factory=ByItself)
    _plan: Plan = field(init=False, repr=False)  # of the step that is next, with what the cache has saved so far

    def run(self, plan: Plan) -> Generator[Event, None, Plan]:
        """Do the steps that are left; then `latents` are clean. Returns the plan that did it.

        Raises `RoomError` when memory runs out at the lowest rung, and `Cancelled`, before the next block, once
        somebody has cancelled.
        """
        self._plan, retry = plan, OomRetry(self.setup.device, _one_down, self.keep)
        setup = replace(self.setup, compute=self.together.computing(self.setup.compute))
        with StreamedExperts(setup, self._forwards(plan), cancel=self.cancel, witness=self.witness) as experts:
            while True:
                with retry, self.together.attempt(self, self._plan) as (meeting, agreed):
                    self._plan = agreed
                    yield from self._attempt(experts, meeting)
                    return self._plan
                yield (down := retry.down(self._plan, f"step {self.done + 1}"))
                self._plan = down.plan
                self.cache.fit(self._plan.chunks)

    def _attempt(self, experts: StreamedExperts, meeting: Meeting) -> Generator[Event, None, None]:
        """Do the steps that are left, each saved once all know it is done."""
        with closing(profiled(self._steps(experts, self._plan, meeting), self.done)) as steps:
            start = time.perf_counter()
            for progress in steps:
                waited = experts.waited()  # and with it the step is done
                seconds = time.perf_counter() - start
                self._plan = self._take(progress, self._plan)
                self.settle(self.done)
                meeting.agreed(True)
                yield from self.save(State(self.done, self.latents, self._plan, self.cache.state()))
                yield self._told(progress, self._plan, seconds, waited)
                start = time.perf_counter()

    def _steps(self, experts: StreamedExperts, plan: Plan, meeting: Meeting) -> Generator[Progress, None, None]:
        if not plan.step_cache:
            self.cache = StepCache()
        experts.change(self._forwards(plan), residency_of(plan))
        make = self.together.of_clips(self.clip)
        clip = make(self.settings.layout, self.settings.attention, plan.chunks)
        given: Given = nothing_given
        if self.frozen is not None:
            clip, given = replace(clip, frozen=frozenset(self.frozen.frames)), self.frozen.seen
        return sample(
            experts,
            self.latents,
            self.guidance,
            self.schedule,
            clip,
            joint=plan.joint,
            first=self.done,
            cache=self.cache,
            given=given,
            meeting=meeting,
        )

    def _take(self, progress: Progress, plan: Plan) -> Plan:
        """A step is done: the next begins here. → the plan, with what the cache saved."""
        self.latents, self.done = progress.latents, progress.step.index + 1
        self.cache.done(progress.computed)
        return replace(plan, skipped=(*plan.skipped, progress.step.index)) if progress.skipped else plan

    def _told(self, progress: Progress, plan: Plan, seconds: float, waited: float) -> StepDone:
        logger.debug("step %d: %.3f s, %.3f s waiting", self.done, seconds, waited)
        memory, planned = most_used(self.setup.device), plan.peak[progress.step.expert]
        return StepDone(progress, memory, planned, seconds, waited)

    @property
    def schedule(self) -> Schedule:
        """All steps."""
        return self.settings.schedule

    def _forwards(self, plan: Plan) -> dict[Expert, int]:
        here = self.together.branches
        return forwards_left(self.schedule, self.done, self.guidance, here, joint=plan.joint)


def restored_cache(settings: RunSettings, state: Cache, device: torch.device) -> StepCache:
    """The step cache of a run, as a saved state has it."""
    cache = StepCache.of(settings.cache)
    cache.restore(state, settings.schedule, device)
    return cache


def forwards_left(
    schedule: Schedule, first: int, guidance: Guidance, computed: Branches = range, *, joint: bool
) -> dict[Expert, int]:
    """Forwards of each expert in the steps from `first` on, if none is skipped.

    `computed` says which of a step's guidance branches are computed here.
    """
    forwards: dict[Expert, int] = {}
    for step in schedule.steps[first:]:
        here = len(computed(len(guidance.at(step, schedule).contexts)))
        passes = min(1, here) if joint else here
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
    scarce = pinned_is_scarce()
    rung = with_less_pinned(plan) if shortage == "pinned" else smaller_plan(plan, pinned_first=scarce)
    if rung is None:
        raise RoomError(
            "memory ran out with the smallest chunks, no resident blocks and one guidance branch at a time; "
            "make the clip shorter or smaller, or close other programs"
        )
    return rung
