"""What is known of a run's state without its tensors: which run it belongs to, and how far that is.

It is in the metadata of the state's file, and read without PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from holo_lite.errors import CheckpointError, LaterRecordError, RecordError, RunError
from holo_lite.plan.plan import Plan
from holo_lite.runs.damage import damaged
from holo_lite.system.record_fields import Positive
from holo_lite.system.records import Codec, Origin
from holo_lite.weights.plain_header import read_plain_header

STATE = "state.safetensors"
CACHES = "cache-*.safetensors"
LATENTS = "latents"
FACTS = "state"  # the key of the metadata
HELD_INPUTS = Origin(version=2, runs_from=1)  # a plan may hold a shot's inputs


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
    origin: Origin = HELD_INPUTS  # a change of any field, or of the plan's, is a new version


# What a cache measured may be anything.
STATE_FACTS = Codec(StateFacts, upgrades={1: dict}, finite=False)


def named_cache(folder: Path) -> str | None:
    """The file of the cache that the state in a folder names, if there is one. Raises `RunError`."""
    if not (folder / STATE).exists():
        return None
    stored = read_facts(folder / STATE).cache
    return None if stored is None else stored.file


def steps_done(folder: Path) -> int | None:
    """How many steps of the run in a folder are done; None if only a later version can tell. Raises `RunError`."""
    path = folder / STATE
    try:
        return look_at_state(path).done if path.exists() else 0
    except LaterRecordError:
        return None
    except (CheckpointError, RecordError) as error:
        raise damaged(path, error) from error


def look_at_state(path: Path) -> StateFacts:
    """What a state's file says, to look at it only. Raises `LaterRecordError`, `CheckpointError`, `RecordError`."""
    return STATE_FACTS.read(read_plain_header(path).metadata.get(FACTS, ""), to_run=False)


def check_record(folder: Path, run: str) -> None:
    """Check by its header alone that the state in a folder belongs to a run.

    Raises `RunError` if it belongs to another, or is damaged there.
    """
    check_run(folder / STATE, read_facts(folder / STATE), run)


def read_facts(path: Path) -> StateFacts:
    """What a state's file says, to continue from it. Raises `RunError`."""
    try:
        return facts_of(path, read_plain_header(path).metadata)
    except CheckpointError as error:
        raise damaged(path) from error


def facts_of(path: Path, metadata: Mapping[str, str]) -> StateFacts:
    """The same of a header's metadata."""
    try:
        return STATE_FACTS.read(metadata.get(FACTS, ""))
    except LaterRecordError as error:
        raise RunError(f"{path}: {error}") from error
    except RecordError as error:
        raise damaged(path, error) from error


def check_run(path: Path, facts: StateFacts, run: str) -> None:
    """Raise `RunError` for a state of another run than the one of that identity."""
    if facts.run != run:
        raise RunError(
            f"{path}: belongs to another run than the run.json next to it; put back the original run.json, "
            f"or remove the folder {path.parent} to start over"
        )
