"""What the farm needs of a cluster of machines. Whatever can do this may run it; `ray_cluster` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from holo_lite.farm.events import Record


@dataclass(frozen=True)
class Place:
    """A card of a machine, or the processors of one without cards; `name` is for people.

    `cards` is how many places the machine has, which share its main memory.
    """

    node: str
    slot: int
    name: str
    cards: int = 1


@dataclass(frozen=True)
class Told:
    """A record that came from a card; None: its process is dead, and `why`."""

    card: str
    record: Record | None
    why: str = ""


class Cluster(Protocol):
    """Machines, and a process on each card that is used. A card has a name that no other ever has."""

    def places(self) -> Sequence[Place]:
        """The cards of the machines that are there now."""

    def start(self, place: Place) -> str:
        """Start a process on a card. Returns the name; what it is asked waits until the card is free."""

    def ask(self, card: str, request: Record) -> None:
        """Ask a card that has answered all it was asked before."""

    def told(self, seconds: float) -> Sequence[Told]:
        """What has come, waiting at most so long for the first of it."""

    def cancel(self, card: str) -> None:
        """Have a card end what it makes: it tells that it has."""

    def stop(self, card: str) -> None:
        """Let a card go, at once."""

    def claim(self, clip: str, card: str) -> bool:
        """Whether a clip may be made on this card: no living card of anybody's has claimed it."""

    def release(self, clip: str, card: str) -> None:
        """A card is done with a clip."""
