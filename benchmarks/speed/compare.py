"""What became slower since a result was kept.

A cell is several runs, so its result carries its own spread. It became slower if its fastest run now is slower than
its slowest run then, by more than a little: noise moves runs within the spread, a slower program moves all of them.
The floor, the reference's way and diffusers run none of this project's code. If one of them became slower, so did
the machine, and that is said.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SLACK = 1.02  # the spread of a few runs is a little less than that of many
OURS = ("own", "start", "levers")  # kinds of parts
SAME = ("small", "device", "model", "layers", "branches", "picture", "shots", "dtype")

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """A cell that became slower, or runs no more."""

    name: str
    ours: bool
    says: str


@dataclass(frozen=True)
class Comparison:
    """What became slower, and what is to be said besides."""

    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    @property
    def slower(self) -> bool:
        """Whether any of our own cells became slower."""
        return any(change.ours for change in self.changes)

    @property
    def lines(self) -> list[str]:
        """For a person."""
        found = [f"SLOWER {change.says}" for change in self.changes]
        if any(not change.ours for change in self.changes):
            found.append("cells that run none of this project's code became slower, too: so did the machine")
        return [*found, *self.notes]


def compare(kept: Record | None, now: Record, names: Iterable[str]) -> Comparison:
    """Compare the named parts of a record with the one that was kept (None: there is none)."""
    if kept is None:
        return Comparison(
            (), ("no result is kept for this device: nothing to compare with; --keep keeps this one",)
        )
    if different := [key for key in SAME if kept.get(key) != now.get(key)]:
        return Comparison((), (f"the result that is kept is of another {different[0]}: nothing is compared",))
    notes = [f"kept with torch {kept['torch']}, now {now['torch']}"] if kept["torch"] != now["torch"] else []
    both = [name for name in names if name in kept["parts"] and name in now["parts"]]
    changes = [found for name in both if (found := change(name, kept["parts"][name], now["parts"][name]))]
    notes.append(f"{len(both)} parts compared, {len(changes)} of them slower than their own spread")
    return Comparison(tuple(changes), tuple(notes))


def change(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Change | None:
    """What became of a part, if it became slower."""
    if "seconds" not in before:
        return None
    ours = before.get("kind") in OURS
    if "seconds" not in now:
        reason = now.get("does_not_fit") or now.get("failed")
        return Change(name, ours, f"{name}: ran, and runs no more: {reason}")
    if min(now["seconds"]) <= SLACK * max(before["seconds"]):
        return None
    old, new = (statistics.median(part["seconds"]) for part in (before, now))
    spread = f"at least {min(now['seconds']):.4f} s now, at most {max(before['seconds']):.4f} before"
    return Change(name, ours, f"{name}: {new / old - 1:+.1%}, {spread}")
