"""The state of a run after a step, in two files.

    state.safetensors      latents; in its metadata how many steps are done, the plan, and which cache belongs to it
    cache-12.safetensors   the step cache as it was after step 12, if the run has one

A cache is gigabytes where latents are megabytes, and a step that was skipped does not change it. So it has a file
of its own, which is written only when it changed. The state is written behind it and names it: whatever moment a
crash happens, the state on the disk has the cache that it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from holo_lite.errors import CheckpointError, LaterRecordError, RecordError, RunError
from holo_lite.plan.plan import Plan
from holo_lite.runs.sealed import damaged, read_sealed, write_sealed
from holo_lite.system.records import FIRST, Codec, Origin, Positive
from holo_lite.weights.header import read_header

STATE = "state.safetensors"
CACHES = "cache-*.safetensors"
LATENTS = "latents"
FACTS = "state"  # the key of the metadata

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


@dataclass(frozen=True)
class StateFacts:
    """What is known of a state beside its tensors. run: the identity of the run that it belongs to."""

    run: str
    done: Positive
    plan: Plan
    made_with: str
    circumstances: Mapping[str, str]
    cache: StoredCache | None
    origin: Origin = FIRST  # a change of any field, or of the plan's, is a new version


STATE_FACTS = Codec(StateFacts, finite=False)  # what a cache measured may be anything


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
    facts = _facts(path, metadata)
    _check_run(path, facts, run)
    if LATENTS not in tensors:
        raise damaged(path)
    stored = facts.cache
    cache: Cache = {} if stored is None else {**stored.numbers, **read_sealed(folder / stored.file)[0]}
    latents, plan = tensors[LATENTS], facts.plan
    return State(facts.done, latents, plan, cache, facts.made_with, facts.circumstances), stored


def named_cache(folder: Path) -> str | None:
    """The file of the cache that the state in a folder names, if there is one. Raises `RunError`."""
    if not (folder / STATE).exists():
        return None
    stored = _read_facts(folder / STATE).cache
    return None if stored is None else stored.file


def steps_done(folder: Path) -> int | None:
    """How many steps of the run in a folder are done; None if only a later version can tell. Raises `RunError`."""
    path = folder / STATE
    try:
        return (
            STATE_FACTS.read(read_header(path).metadata.get(FACTS, ""), to_run=False).done if path.exists() else 0
        )
    except LaterRecordError:
        return None
    except (CheckpointError, RecordError) as error:
        raise damaged(path, error) from error


def check_record(folder: Path, run: str) -> None:
    """Check by its header alone that the state in a folder belongs to a run.

    Raises `RunError` if it belongs to another, or is damaged there.
    """
    _check_run(folder / STATE, _read_facts(folder / STATE), run)


def _read_facts(path: Path) -> StateFacts:
    try:
        return _facts(path, read_header(path).metadata)
    except CheckpointError as error:
        raise damaged(path) from error


def _facts(path: Path, metadata: Mapping[str, str]) -> StateFacts:
    try:
        return STATE_FACTS.read(metadata.get(FACTS, ""))
    except LaterRecordError as error:
        raise RunError(f"{path}: {error}") from error
    except RecordError as error:
        raise damaged(path, error) from error


def _check_run(path: Path, facts: StateFacts, run: str) -> None:
    if facts.run != run:
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
