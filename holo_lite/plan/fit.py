"""A plan: how a clip is run on a machine, or why it cannot be.

`search` decides; here its decision becomes the figures by which the runtime allocates and which a person sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from holo_lite.model.clip import Chunks
from holo_lite.plan.decoding import Tile, stride_of
from holo_lite.plan.machine import UNKNOWN, Machine
from holo_lite.plan.nearest import refusal
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.profile import Profile
from holo_lite.plan.search import RING, Candidate, Problem, held_bytes, kept_bytes, streamed_bytes
from holo_lite.plan.sizes import ModelSizes, StackSizes


@dataclass(frozen=True)
class PhasePlan:
    """One phase, in bytes: the peak on the device, host memory that is pinned, and what a step reads.

    `streamed` is what a step brings to the device (for text: a prompt), `from_disk` what of it is not kept in host
    memory.
    """

    peak: int
    pinned: int = 0
    streamed: int = 0
    from_disk: int = 0


@dataclass(frozen=True)
class Rung:
    """What was given up when memory ran out, and where: before `step 12` was done, in `text` or in `decode`."""

    at: str
    change: str


@dataclass(frozen=True)
class Plan:
    """How a clip is run. Sizes in bytes, `tile` and `stride` in latents (None: whole frames).

    `resident` blocks of the expert in use stay on the device, and `resident_other` of the one that comes next;
    `pinned_cache_blocks` of each expert's other blocks stay in pinned host memory. `budget` is all the device's
    memory that may be taken; the phases' peaks leave a few percent of it to the allocator. `tile_caches` is the
    main memory in which the tiles' caches wait. `pinned_ring`: blocks on their way are in pinned memory.
    `step_cache`: there is room for one, so one that is asked for is used. `rungs` are what this run has given up so
    far, `skipped` the steps, counted from 0, that the cache has saved it.
    """

    profile: str
    scheme: str
    device: str
    budget: int
    chunks: Chunks
    joint: bool
    slots: int
    resident: int
    resident_other: int
    blocks: int
    pinned_cache_blocks: int
    tile: Tile | None
    tile_caches: int
    text: PhasePlan
    high_noise: PhasePlan
    low_noise: PhasePlan
    decode: PhasePlan
    pinned_ring: bool = True
    rungs: tuple[Rung, ...] = ()
    step_cache: bool = False
    skipped: tuple[int, ...] = ()

    @property
    def stride(self) -> Tile | None:
        """The distance from one tile to the next."""
        return None if self.tile is None else stride_of(self.tile)

    @property
    def phases(self) -> Mapping[str, PhasePlan]:
        """The phases in their order."""
        return {
            "text": self.text,
            "high_noise": self.high_noise,
            "low_noise": self.low_noise,
            "decode": self.decode,
        }

    @property
    def peak(self) -> Mapping[str, int]:
        """Peak bytes on the device, by phase."""
        return {name: phase.peak for name, phase in self.phases.items()}


def make_plan(profile: Profile, sizes: ModelSizes, request: ClipRequest, machine: Machine = UNKNOWN) -> Plan:
    """Fit a clip into what a profile and a machine allow.

    Raises `SettingsError` for one that cannot fit, with the nearest that would: shorter, smaller, a larger profile.
    """
    problem = Problem(profile, sizes, request, machine)
    if not problem.fits():
        raise refusal(problem)
    return _plan(problem, problem.way())


def _plan(problem: Problem, way: Candidate) -> Plan:
    sums, profile, sizes = problem.arithmetic, problem.profile, problem.sizes
    cached = problem.cached(way.resident)
    other = held_bytes(sizes.low_noise, way.resident_other)
    tile = next(tile for tile in problem.tiles if sums.decode(tile) <= problem.room)
    text_ring = RING * sizes.text.slot if profile.device == "cuda" else 0
    return Plan(
        profile=profile.name,
        scheme=sizes.scheme,
        device=profile.device,
        budget=problem.budget,
        chunks=way.chunks,
        joint=way.joint,
        slots=profile.slots,
        resident=way.resident,
        resident_other=way.resident_other,
        blocks=len(sizes.high_noise.blocks),
        pinned_cache_blocks=cached,
        tile=tile,
        step_cache=problem.request.cached,
        tile_caches=0 if tile is None else sums.decoder.host_caches(*problem.request.latents, tile),
        text=PhasePlan(sums.text(RING), text_ring, sizes.text.total, sizes.text.total),
        high_noise=_denoise(problem, way, sizes.high_noise, other=other, cached=cached),
        low_noise=_denoise(problem, way, sizes.low_noise, other=0, cached=cached),
        decode=PhasePlan(sums.decode(tile)),
    )


def _denoise(problem: Problem, way: Candidate, stack: StackSizes, *, other: int, cached: int) -> PhasePlan:
    held = held_bytes(stack, way.resident) + other
    visits = 1 if way.joint else problem.request.branches
    streamed = streamed_bytes(stack, way.resident)
    kept = kept_bytes(stack, way.resident, cached)
    both = sum(kept_bytes(each, way.resident, cached) for each in problem.experts.values())
    return PhasePlan(
        peak=problem.arithmetic.denoise(stack, way.chunks, RING, joint=way.joint) + held,
        pinned=RING * problem.sizes.slot + both + stack.adapters if problem.profile.device == "cuda" else 0,
        streamed=visits * streamed,
        from_disk=visits * (streamed - kept),
    )


def denoising_rows(problem: Problem, plan: Plan) -> dict[str, int]:
    """What the memory of denoising goes to, in bytes, under the expert that needs more of it."""
    name = max(problem.experts, key=lambda each: plan.phases[each].peak)
    held = held_bytes(problem.experts[name], plan.resident)
    if name == "high_noise":
        held += held_bytes(problem.sizes.low_noise, plan.resident_other)
    rows = problem.arithmetic.denoising(problem.experts[name], plan.chunks, RING, joint=plan.joint)
    return {"resident blocks": held, **rows}


def plan_record(plan: Plan) -> Mapping[str, Any]:
    """What of a plan bears on a run's bits and its memory, as the run's settings keep it."""
    return {
        "profile": plan.profile,
        "chunks": [plan.chunks.attention, plan.chunks.feed_forward],
        "joint": plan.joint,
        "resident": plan.resident,
        "tile": list(plan.tile) if plan.tile else None,
        "skipped": [step + 1 for step in plan.skipped],  # by number, as in rungs
        "rungs": [{"at": rung.at, "change": rung.change} for rung in plan.rungs],
    }
