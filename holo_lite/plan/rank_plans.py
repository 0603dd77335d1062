"""Ranks as a plan sees them: what each of them has, and what each computes of a clip. `spread` chooses."""

from __future__ import annotations

from dataclasses import dataclass

from holo_lite.model.parts import Part
from holo_lite.plan.cost import Rate
from holo_lite.plan.machine import Machine
from holo_lite.plan.plan import Plan
from holo_lite.plan.profile import Profile

LINK = 5e9  # bytes a second from card to card through main memory: an assumption, no measurement
ALIKE = Rate(1e12, 1e12, "all cards alike")


@dataclass(frozen=True)
class Station:
    """One rank's machine: its name for a person, what it may spend, and how fast it is."""

    name: str
    profile: Profile
    machine: Machine
    rate: Rate = ALIKE


@dataclass(frozen=True)
class Spread:
    """How a clip is laid over ranks. parts, plans, seconds: each rank's, the seconds those of a step's arithmetic.

    `sent` is what a block sends, all ranks together and each row counted once, `received` what the rank receives
    that receives most, in bytes; `alone` is how long the first rank would take for a step by itself.
    """

    parts: tuple[Part, ...]
    plans: tuple[Plan, ...]
    seconds: tuple[float, ...]
    sent: int
    received: int
    alone: float
    blocks: int

    @property
    def step(self) -> float:
        """Seconds of a step: the slowest rank's arithmetic, and what travels."""
        return max(self.seconds) + self.received * self.blocks / LINK

    @property
    def way(self) -> str:
        """Who computes what, for a person."""
        branches = len({part.branches for part in self.parts}) > 1
        shots = any(part.of > 1 for part in self.parts)
        if branches and shots:
            return "guidance branches apart, and shots"
        return "guidance branches apart" if branches else "shots apart"

    @property
    def gain(self) -> float:
        """How many times as fast as the first rank alone."""
        return self.alone / self.step
