"""Files that might be a part, and the choice between them.

A name that only one file in the world has goes before a name that many have, and among equal names the nearest
folder goes first. What is still equal is an error that names both, unless one of them turns out to be something
else or they are copies of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from holo_lite.config import Attention
from holo_lite.errors import CheckpointError
from holo_lite.reading.files import read_bytes
from holo_lite.weights.survey import Survey

EXACT = 0  # the rank of a name under which a file was released


@dataclass(frozen=True)
class Candidate:
    """A file or folder, how telling its name is (the smaller the more), and the attention the name tells."""

    path: Path
    rank: int
    attention: Attention | None = None


@dataclass(frozen=True)
class Choice:
    """The one that is chosen, if any, and those that turned out to be something else."""

    chosen: Candidate | None
    others: tuple[Candidate, ...]


def choose(found: Survey, candidates: Iterable[Candidate], may_be: Callable[[Path], bool], what: str) -> Choice:
    """Choose a part. Raises `CheckpointError` that names both where two are as good as each other.

    A file of an exact name is taken as it is where there is no other: what is wrong with it shall be reported, not
    passed over.
    """
    others: list[Candidate] = []
    for (rank, _), group in groupby(
        sorted(candidates, key=lambda c: _order(found, c)), lambda c: _order(found, c)[:2]
    ):
        equal = list(group)
        if rank == EXACT and len(equal) == 1:
            return Choice(equal[0], tuple(others))
        fitting = [candidate for candidate in equal if may_be(candidate.path)]
        others += [candidate for candidate in equal if candidate not in fitting]
        if fitting:
            return Choice(_only(found, fitting, what), tuple(others))
    return Choice(None, tuple(others))


def _order(found: Survey, candidate: Candidate) -> tuple[int, int, str]:
    return candidate.rank, found.depth(candidate.path), found.shown(candidate.path)


def _only(found: Survey, fitting: list[Candidate], what: str) -> Candidate:
    first, *more = fitting
    for other in more:
        if not _are_copies(first.path, other.path):
            raise CheckpointError(
                f"{found.root}: has two files for the {what}, {found.shown(first.path)} and "
                f"{found.shown(other.path)}; move one of them out of this folder, or give a folder that holds one"
            )
    return first


def _are_copies(one: Path, other: Path) -> bool:
    """Whether two files hold the same, as far as their headers and samples tell."""
    if one.is_dir() or other.is_dir():
        return False
    if one.samefile(other):
        return True
    if one.stat().st_size != other.stat().st_size or not one.stat().st_size:
        return False
    from holo_lite.weights.files import open_weights  # PyTorch, which most folders need not wait for

    try:
        if one.suffix == other.suffix == ".json" and not one.name.endswith(".index.json"):
            return read_bytes(one) == read_bytes(other)
        return open_weights(one).fingerprint == open_weights(other).fingerprint
    except (OSError, CheckpointError):
        return False
