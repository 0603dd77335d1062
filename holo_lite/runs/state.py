"""The state of a run after a step, in two files.

    state.safetensors      latents; in its metadata how many steps are done, the plan, and which cache belongs to it
    cache-12.safetensors   the step cache as it was after step 12, if the run has one

Of the cache its residuals are left out: they are gigabytes, and follow from the rest. The rest is twice the
latents, and a step that was skipped does not change it. So it has a file of its own, which is written only when it
changed.
The state is written behind it and names it: whatever moment a
crash happens, the state on the disk has the cache that it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from holo_lite.plan.plan import Plan
from holo_lite.runs.damage import damaged
from holo_lite.runs.sealed import read_sealed, write_sealed
from holo_lite.runs.state_facts import (
    CACHES,
    FACTS,
    LATENTS,
    STATE,
    STATE_FACTS,
    StateFacts,
    StoredCache,
    check_run,
    facts_of,
)

Cache = Mapping[str, Tensor | float]


@dataclass(frozen=True)
class State:
    """A run after `done` steps.

    latents: (16, F, h, w) fp32, on any device. plan: what the last step was computed with, and the next will be.
    cache: what the step cache remembers, tensors and numbers by name. made_with: what made it so far, and
    circumstances: what the last step was made in.
    """

    done: int
    latents: Tensor
    plan: Plan
    cache: Cache = field(default_factory=dict)
    made_with: str = ""
    circumstances: Mapping[str, str] = field(default_factory=dict)


def write_state(folder: Path, state: State, run: str, before: StoredCache | None) -> StoredCache | None:
    """Write a state into a run's folder, in place of the one before, whose cache is known by `before`.

    `run` is the identity of the run it belongs to. Returns where its cache is. Raises `OutputError`.
    """
    stored = _write_cache(folder, state, before)
    facts = StateFacts(run, state.done, state.plan, state.made_with, state.circumstances, stored)
    write_sealed(folder / STATE, {LATENTS: state.latents}, {FACTS: STATE_FACTS.write(facts)})
    return stored


def read_state(folder: Path, run: str) -> tuple[State, StoredCache | None] | None:
    """The state in a folder and where its cache is; None if no step was finished yet.

    Raises `RunError` for a file that is torn, was changed, or belongs to another run.
    """
    path = folder / STATE
    if not path.exists():
        return None
    tensors, metadata = read_sealed(path)
    facts = facts_of(path, metadata)
    check_run(path, facts, run)
    if LATENTS not in tensors:
        raise damaged(path)
    stored = facts.cache
    cache: Cache = {} if stored is None else {**stored.numbers, **read_sealed(folder / stored.file)[0]}
    latents, plan = tensors[LATENTS], facts.plan
    return State(facts.done, latents, plan, cache, facts.made_with, facts.circumstances), stored


def _write_cache(folder: Path, state: State, before: StoredCache | None) -> StoredCache | None:
    tensors = {name: value for name, value in state.cache.items() if isinstance(value, Tensor)}
    numbers = {name: float(value) for name, value in state.cache.items() if name not in tensors}
    if not tensors:
        return None
    if before is not None and before.numbers == numbers:
        return before
    stored = StoredCache(CACHES.replace("*", str(state.done)), numbers)
    write_sealed(folder / stored.file, tensors, {})
    return stored
