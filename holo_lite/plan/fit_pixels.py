"""The plan for encoding pictures and foreign videos: in whole frames if they fit, else in the largest tiles.

A clip that has a plan always has this one, too: the encoder takes less than the decoder.
"""

from __future__ import annotations

from holo_lite.plan.advice import refusal
from holo_lite.plan.machine import UNKNOWN, Machine
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.pixels import EncodingPlan
from holo_lite.plan.profile import Profile
from holo_lite.plan.search import Problem
from holo_lite.plan.sizes import ModelSizes


def plan_encoding(
    profile: Profile, sizes: ModelSizes, request: ClipRequest, machine: Machine = UNKNOWN
) -> EncodingPlan:
    """Fit the encoding of a clip's frames into what a profile and a machine allow.

    Raises `FitError`, as `make_plan` does, for a clip that cannot fit.
    """
    problem = Problem(profile, sizes, request, machine)
    sums = problem.arithmetic
    for tile in problem.tiles:
        if (peak := sums.encode(tile)) <= problem.room:
            caches = 0 if tile is None else sums.pixel_encoder.host_caches(*request.latents, tile)
            return EncodingPlan(tile, peak, caches)
    raise refusal(problem)
