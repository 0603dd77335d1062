"""How far a run is, for a bar of whole numbers: each phase has the part of it that its work is of all work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

WHOLE = 1000
PHASES = ("text", "denoise", "decode")


@dataclass
class RunShare:
    """Takes the records of one run, and knows how far it is."""

    work: dict[str, float] = field(default_factory=dict)
    phase: str = ""
    done: int = 0
    total: int = 0

    def take(self, record: dict[str, Any]) -> bool:
        """Take a record. Returns whether it says how far the run is."""
        kind = record.get("kind")
        if kind == "resolved":
            self.work = {name: float(record["work"].get(name, 0)) for name in PHASES}
        elif kind == "phase" and record["phase"] in PHASES:
            self.phase, self.done, self.total = record["phase"], record["done"], record["total"]
        elif kind in {"step", "frame"}:
            self.done = record["done"]
        else:
            return False
        return True

    @property
    def value(self) -> int:
        """From 0 to `WHOLE`."""
        everything = sum(self.work.values())
        if not everything or not self.phase:
            return 0
        before = sum(self.work[name] for name in PHASES[: PHASES.index(self.phase)])
        part = min(1.0, self.done / self.total) if self.total else 0.0
        return int(WHOLE * (before + part * self.work[self.phase]) / everything)
