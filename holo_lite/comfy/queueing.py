"""The graph that is being queued.

ComfyUI validates a node by its own inputs alone; what comes from other nodes is not there yet. The request that
queues the graph has all of it, and goes through `Queueing.take` before, in the task that then validates.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

Prompt = Mapping[str, Any]  # nodes by their keys, in the API form


def _nothing() -> ContextVar[Prompt]:
    return ContextVar("holocine_queueing", default=MappingProxyType({}))


@dataclass(frozen=True)
class Queueing:
    """What a task of ComfyUI queues."""

    _graph: ContextVar[Prompt] = field(default_factory=_nothing)

    def take(self, request: dict[str, Any]) -> dict[str, Any]:
        """Remember the graph of a request, and hand the request on as it is."""
        prompt = request.get("prompt")
        self._graph.set(prompt if isinstance(prompt, dict) else {})
        return request

    @property
    def graph(self) -> Prompt:
        """The graph that this task queues; empty where it queues none."""
        return self._graph.get()
