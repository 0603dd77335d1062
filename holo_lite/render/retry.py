"""Continuing when memory runs out: the same work again, with a smaller plan.

The smaller plan is taken after the failed work has been left entirely: an exception that is being handled keeps its
frames alive, and these keep the tensors.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from holo_lite.errors import RoomError
from holo_lite.events import Event, SteppedDown
from holo_lite.plan.fit import Plan, Rung
from holo_lite.plan.ladder import Shortage, shortage_of
from holo_lite.render.device_memory import clear
from holo_lite.streaming.lane import PinError

LONGEST = 120  # characters of what the system said, in a message to a person
T = TypeVar("T")
logger = logging.getLogger(__name__)
Attempt = Callable[[Plan], Generator[Event, None, T]]
Down = Callable[[Plan, Shortage], tuple[Plan, str]]


@dataclass(frozen=True)
class OomRetry:
    """What is done when memory runs out.

    `down` gives the next plan and what is smaller in it, or raises `RoomError`; `keep` is told of every such plan.
    """

    device: torch.device
    down: Down
    keep: Callable[[Plan], None]

    def run(
        self, attempt: Attempt[T], plan: Plan, place: Callable[[], str]
    ) -> Generator[Event, None, tuple[T, Plan]]:
        """Drive an attempt until one succeeds: what it returned, and the plan that did it.

        `place` says which step an attempt is at. Raises what `down` raises, and every error not about memory.
        """
        while True:
            events = attempt(plan)
            try:
                return (yield from events), plan
            except (RuntimeError, PinError) as error:
                shortage, reason = shortage_of(error), first_line(error)
                if shortage is None:
                    raise
            events.close()
            clear(self.device)
            plan = self._one_down(plan, shortage, reason, place())
            logger.info("%s: memory ran out (%s); continuing with %s", place(), reason, plan.rungs[-1].change)
            yield SteppedDown(plan, plan.rungs[-1].change)

    def _one_down(self, plan: Plan, shortage: Shortage, reason: str, place: str) -> Plan:
        try:
            smaller, change = self.down(plan, shortage)
        except RoomError as error:
            raise RoomError(f"{error} ({reason})") from None
        smaller = replace(smaller, rungs=(*plan.rungs, Rung(place, change)))
        self.keep(smaller)
        return smaller


def first_line(error: BaseException) -> str:
    """The beginning of what an error says, or its kind if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0][:LONGEST]
