"""The state of a run after a step, in two files.

    state.safetensors      latents; in its metadata how many steps are done, the plan, and which cache belongs to it
    cache-12.safetensors   the step cache as it was after step 12, if the run has one

A cache is gigabytes where latents are megabytes, and a step that was skipped does not change it. So it has a file
of its own, which is written only when it changed. The state is written behind it and names it: whatever moment a
crash happens, the state on the disk has the cache that it names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from holo_lite.errors import CheckpointError, RunError
from holo_lite.plan.fit import Plan
from holo_lite.plan.saved import plan_from_json, plan_to_json
from holo_lite.runs.sealed import damaged, read_sealed, write_sealed
from holo_lite.weights.header import read_header

STATE = "state.safetensors"
CACHES = "cache-*.safetensors"
LATENTS = "latents"
VERSION = 1

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


@dataclass(frozen=True)
class StoredCache:
    """The cache of a state: its file, and the numbers in it, by which a change is recognised."""

    file: str
    numbers: Mapping[str, float]

    @classmethod
    def read(cls, found: Mapping[str, Any] | None) -> StoredCache | None:
        """From what JSON made of it."""
        return None if found is None else cls(str(found["file"]), dict(found["numbers"]))


def write_state(folder: Path, state: State, run: str, before: StoredCache | None) -> StoredCache | None:
    """Write a state into a run's folder, in place of the one before, whose cache is known by `before`.

    `run` is the identity of the run it belongs to. Returns where its cache is. Raises `OutputError`.
    """
    stored = _write_cache(folder, state, before)
    facts = {
        "version": VERSION,
        "run": run,
        "done": state.done,
        "plan": plan_to_json(state.plan),
        "made_with": state.made_with,
        "circumstances": dict(state.circumstances),
        "cache": None if stored is None else {"file": stored.file, "numbers": stored.numbers},
    }
    write_sealed(folder / STATE, {LATENTS: state.latents}, {"state": json.dumps(facts)})
    return stored


def read_state(folder: Path, run: str) -> tuple[State, StoredCache | None] | None:
    """The state in a folder and where its cache is; None if no step was finished yet.

    Raises `RunError` for a file that is torn, was changed, or belongs to another run.
    """
    path = folder / STATE
    if not path.exists():
        return None
    tensors, metadata = read_sealed(path)
    try:
        facts = json.loads(metadata["state"])
        _check_kind(path, facts, run)
        stored = StoredCache.read(facts["cache"])
        cache: Cache = {} if stored is None else {**stored.numbers, **read_sealed(folder / stored.file)[0]}
        return State(
            done=facts["done"],
            latents=tensors[LATENTS],
            plan=plan_from_json(facts["plan"]),
            cache=cache,
            made_with=facts["made_with"],
            circumstances=facts["circumstances"],
        ), stored
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path) from error


def named_cache(folder: Path) -> str | None:
    """The file of the cache that the state in a folder names, if there is one. Raises `RunError`."""
    if not (folder / STATE).exists():
        return None
    try:
        stored = StoredCache.read(json.loads(read_header(folder / STATE).metadata["state"])["cache"])
    except (CheckpointError, KeyError, TypeError, ValueError) as error:
        raise damaged(folder / STATE) from error
    return None if stored is None else stored.file


def check_record(folder: Path, run: str) -> None:
    """Check by its header alone that the state in a folder belongs to a run.

    Raises `RunError` if it belongs to another, or is damaged there.
    """
    path = folder / STATE
    try:
        _check_kind(path, json.loads(read_header(path).metadata["state"]), run)
    except (CheckpointError, KeyError, TypeError, ValueError) as error:
        raise damaged(path) from error


def _check_kind(path: Path, facts: Mapping[str, Any], run: str) -> None:
    if facts["version"] != VERSION:
        raise RunError(f"{path}: is of version {facts['version']}; update holo-lite to read it")
    if facts["run"] != run:
        raise RunError(
            f"{path}: belongs to another run than the run.json next to it; put back the original run.json, "
            f"or remove the folder {path.parent} to start over"
        )


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
