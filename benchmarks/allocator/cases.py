"""What is tried: every profile, clips up to the longest that fits, what takes least on a card and what takes most.

That is fused operations and a small workspace, and plain ones with a large workspace. Models are in the scheme that
a profile prefers; where that has 8 bits, some clips are also made in fp8, which takes another way through a block.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.allocator.caching import MIB, CachingAllocator, FullError
from benchmarks.allocator.holes import write_hollow
from benchmarks.allocator.phases import HollowRun
from benchmarks.allocator.watching import Told, WatchedCard
from holo_lite.eightbit.limits import LinearMode
from holo_lite.plan.fit import make_plan
from holo_lite.plan.machine import Machine
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.plan import Plan
from holo_lite.plan.profile import GIB, Profile, find_profile, shipped_profiles
from holo_lite.plan.released import released_sizes
from holo_lite.plan.search import Problem
from holo_lite.plan.sizes import ModelSizes
from holo_lite.schemes.registry import SCHEMES
from holo_lite.story.shots import FRAMES_PER_LATENT, ShotLayout, even_cuts

FRAMES = (33, 81, 241, 481)
LONGEST = 961
IN_FP8 = (33, 241)  # and the longest
FP8 = "qfloat8"
FEWEST, MOST = 5, 16  # shots of a clip in many
FRAMES_A_SHOT = 49  # about three seconds
RAM = 64 * GIB
# A matrix library's workspace: of consumer cards, and of Hopper, by PyTorch's notes on CUDA semantics.
WORKSPACES = {"8 MiB": 8320 * 1024, "32 MiB": 32 * MIB}


@dataclass(frozen=True)
class Case:
    """A clip under a profile. workspace: one of `WORKSPACES`; model: its scheme, if not the preferred one."""

    profile: str
    frames: int
    fused: bool = True
    shots: int = 0  # many: as its length suggests
    workspace: str = "8 MiB"
    model: str = ""

    def __str__(self) -> str:
        ways = [self.model] if self.model else []
        ways += ["fused" if self.fused else "plain", self.workspace]
        return f"{self.profile}, {self.frames} frames in {self.layout.shots}, {', '.join(ways)}"

    @property
    def scheme(self) -> str:
        """The model's."""
        return self.model or self._profile.schemes[0]

    @property
    def layout(self) -> ShotLayout:
        """The clip's shots, at 480x832."""
        shots = self.shots or max(FEWEST, min(MOST, round(self.frames / FRAMES_A_SHOT)))
        return ShotLayout.from_frames(self.frames, even_cuts(self.frames, shots), 480, 832)

    @property
    def linear(self) -> LinearMode:
        """How such a model is multiplied on a card."""
        return _multiplied(self.scheme)

    @property
    def sizes(self) -> ModelSizes:
        """Those of the released model."""
        return dataclasses.replace(released_sizes(self.scheme), linear=self.linear)

    @property
    def _problem(self) -> Problem:
        return Problem(self._profile, self.sizes, ClipRequest(self.layout), Machine(ram=RAM))

    def fits(self) -> bool:
        """Whether the profile has room for the clip."""
        return self._problem.fits()

    def plan(self) -> Plan:
        """How it is run."""
        problem = self._problem
        return make_plan(problem.profile, problem.sizes, problem.request, problem.machine)

    def run(self, models: Path, told: Told | None = None) -> Outcome:
        """Run it, on a hollow model under `models`; `told`: what other cases have asked for."""
        scheme, plan = self.scheme, self.plan()
        folder = write_hollow(models / scheme / "model", scheme)
        watch = _Watch(CachingAllocator(plan.budget))
        card = WatchedCard(watch.allocator, WORKSPACES[self.workspace], told)
        run = HollowRun(folder, scheme, self.layout, plan, card, self.fused, self.linear)
        try:
            run.run(watch.begin)
        except FullError as error:
            return watch.outcome(self, plan, str(error))
        return watch.outcome(self, plan)

    @property
    def _profile(self) -> Profile:
        return find_profile(self.profile)


@dataclass(frozen=True)
class Outcome:
    """What a run took, in bytes: allocated by phase, reserved at most; the retries, and why it ended early."""

    case: Case
    plan: Plan
    allocated: dict[str, int]
    reserved: int
    retries: int
    full: str = ""

    def misses(self) -> list[str]:
        """What of the promise does not hold."""
        planned = dict(self.plan.peak)
        # At the switch the first expert's blocks still stand, which its own plan counts.
        planned["low_noise"] = max(planned["low_noise"], planned["high_noise"])
        over = {name: taken - planned[name] for name, taken in self.allocated.items() if taken > planned[name]}
        found = [f"{name}: {nbytes / MIB:.2f} MiB more than planned" for name, nbytes in over.items()]
        if self.retries:
            found.append(f"{self.retries} retries")
        if self.reserved > self.plan.budget:
            found.append(f"{self.reserved} bytes reserved")
        return [*found, *([self.full] if self.full else [])]


class _Watch:
    """The peaks of the phases, one after the other."""

    def __init__(self, allocator: CachingAllocator) -> None:
        self.allocator = allocator
        self._allocated: dict[str, int] = {}
        self._phase, self._reserved = "", 0

    def begin(self, phase: str) -> None:
        self._end()
        self.allocator.forget_peaks()
        self._phase = phase

    def outcome(self, case: Case, plan: Plan, full: str = "") -> Outcome:
        self._end()
        return Outcome(case, plan, self._allocated, self._reserved, self.allocator.retries, full)

    def _end(self) -> None:
        if self._phase:
            self._allocated[self._phase] = self.allocator.most_allocated
        self._reserved = max(self._reserved, self.allocator.most_reserved)


def every_case() -> Iterator[Case]:
    """All of them."""
    profiles = [each for each in shipped_profiles() if each.device == "cuda"]
    for profile in profiles:
        yield from _cases(profile, FRAMES)
    for profile in profiles:
        if _multiplied(profile.schemes[0]) != "plain":
            yield from _cases(profile, IN_FP8, FP8)


def _multiplied(scheme: str) -> LinearMode:
    """How a card multiplies what is stored so."""
    known = SCHEMES.get(scheme)  # bf16 is none
    return "plain" if known is None or known.eight_bits is None else known.eight_bits


def _cases(profile: Profile, tried: tuple[int, ...], model: str = "") -> Iterator[Case]:
    for shots in (1, 0):
        for frames in lengths(profile.name, shots, tried, model):
            case = Case(profile.name, frames, shots=shots, model=model)
            yield case
            yield dataclasses.replace(case, fused=False, workspace="32 MiB")


@cache
def lengths(profile: str, shots: int, tried: tuple[int, ...] = FRAMES, model: str = "") -> tuple[int, ...]:
    """Lengths of clips that fit, up to the longest that does. Kept: each asks for some ten plans."""
    fitting, any_length = (
        range(FRAMES[0], LONGEST + 1, FRAMES_PER_LATENT),
        Case(profile, 0, shots=shots, model=model),
    )
    count = bisect.bisect_left(
        fitting, True, key=lambda frames: not dataclasses.replace(any_length, frames=frames).fits()
    )
    longest = fitting[count - 1]
    return (*(frames for frames in tried if frames < longest), longest)
