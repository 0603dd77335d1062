"""From a clip and a machine to the plan, or to why there is none.

`search` decides; here its decision becomes the figures by which the runtime allocates and which a person sees.
"""

from __future__ import annotations

from holo_lite.plan.advice import refusal
from holo_lite.plan.machine import UNKNOWN, Machine
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.pixels import EncodingPlan
from holo_lite.plan.plan import PhasePlan, Plan
from holo_lite.plan.profile import Profile
from holo_lite.plan.search import RING, Candidate, Problem, held_bytes, kept_bytes, streamed_bytes
from holo_lite.plan.sizes import ModelSizes, StackSizes


def make_plan(profile: Profile, sizes: ModelSizes, request: ClipRequest, machine: Machine = UNKNOWN) -> Plan:
    """Fit a clip into what a profile and a machine allow.

    Raises `FitError` for one that cannot fit, with the nearest that would: shorter, smaller, a larger profile.
    """
    problem = Problem(profile, sizes, request, machine)
    if not problem.fits():
        raise refusal(problem)
    return _plan(problem, problem.with_inputs_held(problem.way()))


def plan_encoding(
    profile: Profile, sizes: ModelSizes, request: ClipRequest, machine: Machine = UNKNOWN
) -> EncodingPlan:
    """Fit the encoding of pictures and foreign videos into what a profile and a machine allow.

    In whole frames if they fit, else in the largest tiles. A clip that has a plan always has this one, too: the
    encoder takes less than the decoder. Raises `FitError`, as `make_plan` does, for a clip that cannot fit.
    """
    problem = Problem(profile, sizes, request, machine)
    sums = problem.arithmetic
    for tile in problem.tiles:
        if (peak := sums.encode(tile)) <= problem.room:
            caches = 0 if tile is None else sums.pixel_encoder.host_caches(*request.latents, tile)
            return EncodingPlan(tile, peak, caches)
    raise refusal(problem)


def _plan(problem: Problem, way: Candidate) -> Plan:
    sums, profile, sizes = problem.arithmetic, problem.profile, problem.sizes
    cached = problem.cached(way.resident)
    other = held_bytes(sizes.low_noise, way.resident_other, profile.device)
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
    held = held_bytes(stack, way.resident, problem.profile.device) + other
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
    device = problem.profile.device
    held = held_bytes(problem.experts[name], plan.resident, device)
    if name == "high_noise":
        held += held_bytes(problem.sizes.low_noise, plan.resident_other, device)
    rows = problem.arithmetic.denoising(problem.experts[name], plan.chunks, RING, joint=plan.joint)
    return {"resident blocks": held, **rows}
