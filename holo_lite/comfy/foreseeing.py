"""Plans: of a run whose inputs are all there, and of one that is only being queued, as far as its graph says them.

A graph says them where model and storyboard come straight from nodes of ours, and everything they are made of is
typed there. What other nodes give is known when they have run.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import folders, host
from .handles import Model, NodeError, Story
from .model_node import chosen_model
from .orders import Wishes, only_said, plan_order
from .queueing import Prompt
from .sharing import QUEUEING, SESSION
from .story_nodes import story_in_toml, typed_story
from .waiting import Check, Record

LOG = "plan.log"
PATIENCE = 60.0  # seconds for which a queueing waits; after that the run itself says whether it fits
WIRED = ("model", "storyboard")
SIZES = ("width", "height", "steps", "cfg")
OF_NOW = "RoomError"  # the machine could not be asked: that may be otherwise when the run begins
SOURCES: Mapping[str, Callable[..., Any]] = {
    "HoloCineModel": chosen_model,
    "HoloCineStoryboard": typed_story,
    "HoloCineStoryboardTOML": story_in_toml,
}


@dataclass(frozen=True)
class PlannedRun:
    """What a plan is for. options: as in an order."""

    model: Model
    story: Story
    options: Mapping[str, Any]


def asked_plan(run: PlannedRun, check: Check) -> Record:
    """What the plan of a run says. Raises `NodeError` where nobody can be asked, and what `check` raises."""
    places, python = folders.places(), SESSION.interpreters.choose()
    order = plan_order(run.model, run.story, Wishes(run.options), places)
    return SESSION.planner.plan(python, order, places.scratch / LOG, check)


def queued_inputs() -> Mapping[str, Any]:
    """What is typed into the node that is validated now, besides its model and storyboard; nothing: not known."""
    return _typed(QUEUEING.graph, host.node_at_work(), but=WIRED) or {}


async def refused() -> bool | str:
    """Why the node that is validated now cannot run; True: nothing is known that speaks against it."""
    run = known_run(QUEUEING.graph, host.node_at_work())
    return True if run is None else await asyncio.to_thread(_refused, run)


def _refused(run: PlannedRun) -> bool | str:
    """As `refused`. Nothing is asked of ComfyUI: another graph may run, whose interruption is not ours to take."""
    try:
        found = asked_plan(run, _patience())
    except NodeError:
        return True  # whatever is in the way is said by the run
    return str(found["why"]) if found["state"] != "fits" and found.get("error") != OF_NOW else True


def _patience() -> Check:
    end = time.monotonic() + PATIENCE

    def check() -> None:
        if time.monotonic() > end:
            raise NodeError("the plan takes too long")

    return check


def known_run(graph: Prompt, key: str) -> PlannedRun | None:
    """What a node of a graph will run; None: it is known later."""
    inputs = _typed(graph, key, but=WIRED)
    if inputs is None or inputs.get("draft"):
        return None  # a draft is smaller than what its inputs say
    model, story = (_source(graph, inputs.get(name)) for name in WIRED)
    if not isinstance(model, Model) or not isinstance(story, Story):
        return None
    return PlannedRun(model, story, only_said(**{name: inputs[name] for name in SIZES if name in inputs}))


def _source(graph: Prompt, link: Any) -> Any:
    """What comes along a link from a node whose inputs are all typed; None: it is known later."""
    key = str(link[0]) if isinstance(link, list) and link else ""
    inputs = _typed(graph, key)
    source = SOURCES.get(str(graph[key].get("class_type"))) if inputs is not None else None
    if source is None or inputs is None or not _takes(source, inputs):
        return None
    try:
        return source(**inputs)
    except NodeError:  # that node says it
        return None


def _takes(source: Callable[..., Any], inputs: Mapping[str, Any]) -> bool:
    try:
        inspect.signature(source).bind(**inputs)
    except TypeError:  # a stranger's graph
        return False
    return True


def _typed(graph: Prompt, key: str, but: tuple[str, ...] = ()) -> dict[str, Any] | None:
    """The inputs of a node; None where there is no such node, or another node gives one that is not in `but`."""
    node = graph.get(key)
    inputs = node.get("inputs") if isinstance(node, dict) else None
    if not isinstance(inputs, dict):
        return None
    return None if any(isinstance(each, list) for name, each in inputs.items() if name not in but) else dict(inputs)
