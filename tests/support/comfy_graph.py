"""A graph as ComfyUI carries it out, for the stand-in, and the form in which it is queued."""

from __future__ import annotations

import asyncio
import inspect
import sys
from dataclasses import dataclass
from typing import Any

from comfy_stand_in import EXECUTING, Autogrow, ExecutionContext, NodeOutput


@dataclass
class Made:
    """What became of a node: for each output all its values, and what each of its runs shows."""

    values: list[list[Any]]
    shown: list[Any]

    @property
    def args(self) -> list[Any]:
        """The outputs of a node that has one value for each."""
        assert all(len(each) == 1 for each in self.values), "there are several"
        return [each[0] for each in self.values]


class Graph:
    """A graph in its API form, carried out as ComfyUI does it: validated first, then a node after what it needs.

    Every output is a list; a node runs once for each value of the longest list that comes in, and of shorter ones
    the last value stands for those that are missing.
    """

    def __init__(self, nodes: dict[str, Any], prompt: dict[str, Any]) -> None:
        self.nodes, self.prompt = nodes, {key: each for key, each in prompt.items() if each["class_type"] in nodes}
        self.done: dict[str, Made] = {}

    def faults(self) -> dict[str, str]:
        """What validation says, by node. Inputs that are connected are not there yet."""
        return asyncio.run(self._faults())

    async def _faults(self) -> dict[str, str]:
        sys.modules["server"].PromptServer.instance.trigger_on_prompt({"prompt": self.prompt})
        said = {key: await self._validated(key) for key in self.prompt}
        return {key: each for key, each in said.items() if each is not True}

    async def _validated(self, key: str) -> Any:
        each, node = self.prompt[key], self.nodes[self.prompt[key]["class_type"]]
        names = inspect.getfullargspec(node.validate_inputs).args[1:] if hasattr(node, "validate_inputs") else []
        given = {name: each["inputs"].get(name) for name in names if name in each["inputs"]}
        if not given:
            return True
        given = {name: None if isinstance(value, list) else value for name, value in given.items()}
        schema = node.define_schema()  # inputs that grow are handed in, asked for or not
        given |= {each.id: {} for each in schema.inputs if isinstance(each, Autogrow.Input)}
        token = EXECUTING.set(ExecutionContext(key))
        said = node.validate_inputs(**given)
        said = await said if inspect.isawaitable(said) else said
        EXECUTING.reset(token)
        return said

    def run(self) -> dict[str, Made]:
        """Every node's outputs by its key."""
        for key in self.prompt:
            self._result(key)
        return self.done

    def _result(self, key: str) -> Made:
        if key not in self.done:
            each, node = self.prompt[key], self.nodes[self.prompt[key]["class_type"]]
            given = {name: self._values(value) for name, value in each["inputs"].items()}
            longest = max(map(len, given.values()))
            runs = [node.execute(**_slice(given, index)) for index in range(longest)]
            self.done[key] = Made(_joined(node, runs), [run.ui for run in runs])
        return self.done[key]

    def _values(self, given: Any) -> list[Any]:
        return self._result(given[0]).values[given[1]] if isinstance(given, list) else [given]


def _slice(given: dict[str, list[Any]], index: int) -> dict[str, Any]:
    """The values of one run; those of inputs that grow, which are named with a point, go into one dictionary."""
    found: dict[str, Any] = {}
    for name, values in given.items():
        group, _, own = name.partition(".")
        value = values[min(index, len(values) - 1)]
        if own:
            found.setdefault(group, {})[own] = value
        else:
            found[name] = value
    return found


def _joined(node: Any, runs: list[NodeOutput]) -> list[list[Any]]:
    """The values of each output of all runs: a list goes in by its parts."""
    found = []
    for index, output in enumerate(node.define_schema().outputs):
        values = [run.args[index] for run in runs]
        found.append([part for each in values for part in each] if output.is_output_list else values)
    return found


def prompt_of(workflow: dict[str, Any]) -> dict[str, Any]:
    """The API form of a workflow as ComfyUI's page saves it."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    return {
        str(node["id"]): {"class_type": node["type"], "inputs": _inputs(node, links)}
        for node in workflow["nodes"]
        if node["type"] not in {"Note", "MarkdownNote"}
    }


def _inputs(node: dict[str, Any], links: dict[int, list[Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    values = list(node.get("widgets_values") or [])
    for each in node["inputs"]:
        value = None
        if "widget" in each:
            value = values.pop(0)
            if each["name"] in {"seed", "noise_seed"}:
                values.pop(0)  # what becomes of it after a run
        if each.get("link") is not None:
            found[each["name"]] = links[each["link"]]
        elif "widget" in each:
            found[each["name"]] = value
    return found
