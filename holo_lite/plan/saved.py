"""A plan as JSON and back, for a run that is interrupted and resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

from holo_lite.model.clip import Chunks
from holo_lite.plan.fit import PhasePlan, Plan, Rung


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """All of a plan, in what JSON knows."""
    return dataclasses.asdict(plan)


def plan_from_json(found: Mapping[str, Any]) -> Plan:
    """Read a plan back. Raises `KeyError`, `TypeError` or `ValueError` for what is none of this version."""
    phases = [name for name, hint in get_type_hints(Plan).items() if hint is PhasePlan]
    rows, columns = found["tile"] or (0, 0)
    return Plan(
        **{
            **found,
            **{name: PhasePlan(**found[name]) for name in phases},
            "chunks": Chunks(**found["chunks"]),
            "tile": (int(rows), int(columns)) if found["tile"] else None,
            "rungs": tuple(Rung(**rung) for rung in found["rungs"]),
            "skipped": tuple(int(step) for step in found["skipped"]),
        }
    )
