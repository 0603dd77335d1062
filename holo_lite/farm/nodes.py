"""Which cards the machines of a Ray cluster have, from what Ray tells of them, and what a process takes of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from holo_lite.farm.cluster import Place

Node = Mapping[str, Any]  # as `ray.nodes` has it
PROCESSORS = -1  # the slot of a place that has no card


def places(nodes: Sequence[Node], *, on_processors: bool = False) -> list[Place]:
    """A place for each card; where no machine has one, or none is wanted, one for each machine's processors."""
    names = _names(nodes)
    if not on_processors and any(_has(node, "GPU") for node in nodes):
        return [
            Place(node["NodeID"], slot, f"{names[node['NodeID']]} card {slot}", _has(node, "GPU"))
            for node in nodes
            for slot in range(_has(node, "GPU"))
        ]
    return [Place(node["NodeID"], PROCESSORS, names[node["NodeID"]]) for node in nodes if _has(node, "CPU")]


def demand(place: Place, node: Node) -> dict[str, Any]:
    """What a process takes, so that no other has it: a card, or all processors. It computes with its share."""
    processors = _has(node, "CPU")
    if place.slot == PROCESSORS:
        return {"num_cpus": processors}
    threads = max(1, processors // _has(node, "GPU"))
    return {"num_gpus": 1, "num_cpus": 0, "runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(threads)}}}


def _has(node: Node, resource: str) -> int:
    return int(node["Resources"].get(resource, 0))


def _names(nodes: Sequence[Node]) -> dict[str, str]:
    """What a person calls each machine; where two are called alike, with the beginning of what Ray calls them."""
    own = {node["NodeID"]: _name(node) for node in nodes}
    many = Counter(own.values())
    return {key: name if many[name] == 1 else f"{name} {key[:4]}" for key, name in own.items()}


def _name(node: Node) -> str:
    """The name that it was given; Ray gives its address to those that were given none."""
    named = str(node["NodeName"])
    return named if named != node["NodeManagerAddress"] else str(node["NodeManagerHostname"])
