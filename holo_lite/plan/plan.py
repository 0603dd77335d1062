"""A plan: how a clip is run on a machine.

The figures by which the runtime allocates, and which a person sees. How they are found is `fit`'s; a plan that is
read back from a run, or made smaller, needs none of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from holo_lite.film.tiling import Tile, stride_of
from holo_lite.model.clip import Chunks
from holo_lite.system.record_fields import Natural, Positive


@dataclass(frozen=True)
class PhasePlan:
    """One phase, in bytes: the peak on the device, host memory that is pinned, and what a step reads.

    `streamed` is what a step brings to the device (for text: a prompt), `from_disk` what of it is not kept in host
    memory.
    """

    peak: Natural
    pinned: Natural = 0
    streamed: Natural = 0
    from_disk: Natural = 0


@dataclass(frozen=True)
class Rung:
    """What was given up when memory ran out, and where: before `step 12` was done, or in a phase as `decode`."""

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
    budget: Natural
    chunks: Chunks
    joint: bool
    slots: Positive
    resident: Natural
    resident_other: Natural
    blocks: Natural
    pinned_cache_blocks: Natural
    tile: Tile | None
    tile_caches: Natural
    text: PhasePlan
    high_noise: PhasePlan
    low_noise: PhasePlan
    decode: PhasePlan
    pinned_ring: bool = True
    rungs: tuple[Rung, ...] = ()
    step_cache: bool = False
    skipped: tuple[Natural, ...] = ()

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
