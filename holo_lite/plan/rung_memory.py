"""Rungs that a card had to take once, remembered for clips of the same size.

Running out of memory costs the time of a step. It is paid once: the next run of such a clip on that card begins
with the plan that held.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from holo_lite.model.clip import Chunks
from holo_lite.plan.decoding import Tile
from holo_lite.plan.fit import Plan
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.sizes import ModelSizes
from holo_lite.system.whole_files import write_whole

FILE_NAME = "rungs.json"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RungMemory:
    """What a machine had to take for a clip of some size. `path` is a small JSON table."""

    path: Path
    key: str

    @classmethod
    def of(cls, folder: Path, machine: str, sizes: ModelSizes, request: ClipRequest) -> RungMemory:
        """The memory for a clip of this size, of such a model computed in this way, on this machine."""
        facts = [machine, sizes.scheme, request.layout.starts, request.layout.latent_frames]
        facts += [request.layout.rows, request.layout.columns, request.attention, request.guided]
        facts += ["cached"] if request.cached else []
        facts += [sizes.bytes_per_number, sizes.linear, vars(sizes.workspace)]
        facts += [sizes.high_noise.adapters, sizes.low_noise.adapters]
        return cls(folder / FILE_NAME, hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24])

    def apply(self, plan: Plan) -> Plan:
        """The plan, or the smaller one that held when it was last needed."""
        found = self._table().get(self.key)
        try:
            smaller = plan if found is None else _smaller(plan, found)
        except (KeyError, TypeError, ValueError):
            return plan
        if smaller != plan:
            logger.info("memory ran out on a clip of this size before; starting with the plan that worked")
        return smaller

    def keep(self, plan: Plan) -> None:
        """Remember a plan. A folder that cannot be written is a warning: the run continues.

        That there was no room for a step cache is not remembered: without it a run has another result, and what was
        asked for is tried each time.
        """
        record = {
            "chunks": [plan.chunks.attention, plan.chunks.feed_forward],
            "joint": plan.joint,
            "resident": plan.resident,
            "pinned_cache_blocks": plan.pinned_cache_blocks,
            "pinned_ring": plan.pinned_ring,
            "tile": list(plan.tile) if plan.tile else None,
        }
        table = {**self._table(), self.key: record}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, json.dumps(table, indent=1).encode())
        except OSError as error:
            logger.warning("the smaller plan cannot be cached: %s", str(error))

    def _table(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _smaller(plan: Plan, found: Mapping[str, Any]) -> Plan:
    """The smaller of two plans in every respect: there may be less memory today than there was then."""
    attention, feed_forward = found["chunks"]
    chunks = Chunks(min(plan.chunks.attention, attention), min(plan.chunks.feed_forward, feed_forward))
    tile = (int(found["tile"][0]), int(found["tile"][1])) if found["tile"] else None
    held = int(found["resident"])
    return replace(
        plan,
        chunks=chunks,
        joint=plan.joint and bool(found["joint"]),
        resident=min(plan.resident, held),
        resident_other=plan.resident_other if plan.resident <= held else 0,
        pinned_cache_blocks=min(plan.pinned_cache_blocks, int(found["pinned_cache_blocks"])),
        pinned_ring=plan.pinned_ring and bool(found["pinned_ring"]),
        tile=tile if plan.tile is None else min(plan.tile, tile or plan.tile, key=_area),
    )


def _area(tile: Tile) -> int:
    return tile[0] * tile[1]
