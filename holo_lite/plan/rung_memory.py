"""Rungs that a card had to take once, remembered for clips of the same size.

Running out of memory costs the time of a step. It is paid once: the next run of such a clip on that card begins
with the plan that held. What took the memory may have been another program, so after a week the whole plan is tried
again: if it still does not hold, that costs one step.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from holo_lite.film.tiling import Tile
from holo_lite.model.clip import Chunks
from holo_lite.plan.ladder import LEAST_TILE
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.plan import Plan
from holo_lite.plan.sizes import ModelSizes
from holo_lite.sampling.bounds import MOST_PIXELS
from holo_lite.story.shots import PIXELS_PER_LATENT
from holo_lite.system.caches import RUNGS, table
from holo_lite.system.json_table import JsonTable
from holo_lite.system.record_fields import Natural, Positive

Side = Annotated[int, Meta(ge=LEAST_TILE, le=MOST_PIXELS // PIXELS_PER_LATENT)]
LASTS = 7 * 24 * 3600.0  # seconds
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SmallerPlan:
    """What of a plan the ladder makes smaller."""

    chunks: tuple[Positive, Positive]
    joint: bool
    resident: Natural
    pinned_cache_blocks: Natural
    pinned_ring: bool
    tile: tuple[Side, Side] | None
    since: float = 0.0  # when memory ran out, in seconds since 1970; what an earlier version kept is too old

    @classmethod
    def of(cls, plan: Plan, since: float) -> SmallerPlan:
        """What to remember of a plan."""
        chunks, kept = (plan.chunks.attention, plan.chunks.feed_forward), plan.pinned_cache_blocks
        return cls(chunks, plan.joint, plan.resident, kept, plan.pinned_ring, plan.tile, since)


@dataclass(frozen=True)
class RungMemory:
    """What a machine had to take for a clip of some size."""

    table: JsonTable[SmallerPlan]
    key: str
    clock: Callable[[], float] = time.time

    @classmethod
    def of(cls, folder: Path, machine: str, sizes: ModelSizes, request: ClipRequest) -> RungMemory:
        """The memory for a clip of this size, of such a model computed in this way, on this machine."""
        facts = [machine, sizes.scheme, request.layout.starts, request.layout.latent_frames]
        facts += [request.layout.rows, request.layout.columns, request.attention, request.guided]
        facts += ["cached"] if request.cached else []
        facts += [request.frozen] if request.frozen else []
        facts += [vars(request.part)] if request.part else []
        facts += [sizes.bytes_per_number, sizes.linear, vars(sizes.workspace)]
        facts += [sizes.high_noise.adapters, sizes.low_noise.adapters]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
        return cls(table(RUNGS, folder, SmallerPlan), key)

    def apply(self, plan: Plan) -> Plan:
        """The plan, or the smaller one that held when it was last needed, in the last seven days."""
        found = self.table.get(self.key)
        lasts = found is not None and 0 <= self.clock() - found.since <= LASTS
        smaller = _smaller(plan, found) if found is not None and lasts else plan
        if smaller != plan:
            logger.info("memory ran out on a clip of this size before; starting with the plan that worked")
        return smaller

    def keep(self, plan: Plan) -> None:
        """Remember a plan. A folder that cannot be written is a warning: the run continues.

        That there was no room for a step cache is not remembered: without it a run has another result, and what was
        asked for is tried each time.
        """
        self.table.keep(self.key, SmallerPlan.of(plan, self.clock()))


def _smaller(plan: Plan, found: SmallerPlan) -> Plan:
    """The smaller of two plans in every respect: there may be less memory today than there was then."""
    attention, feed_forward = found.chunks
    return replace(
        plan,
        chunks=Chunks(min(plan.chunks.attention, attention), min(plan.chunks.feed_forward, feed_forward)),
        joint=plan.joint and found.joint,
        resident=min(plan.resident, found.resident),
        resident_other=plan.resident_other if plan.resident <= found.resident else 0,
        pinned_cache_blocks=min(plan.pinned_cache_blocks, found.pinned_cache_blocks),
        pinned_ring=plan.pinned_ring and found.pinned_ring,
        tile=found.tile if plan.tile is None else min(plan.tile, found.tile or plan.tile, key=_area),
    )


def _area(tile: Tile) -> int:
    return tile[0] * tile[1]
