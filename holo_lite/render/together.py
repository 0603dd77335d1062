"""The steps of a clip together with other ranks: what all agree on before each attempt, and what ends one.

At the beginning of an attempt all ranks take the first one's latents, with what its step cache knows, and the way
in which all have room for guidance. So however the last attempt ended, and on whichever rank, they go on from one
state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor

from holo_lite.cancel import Cancelled
from holo_lite.errors import HoloError, RanksError, in_a_line, with_kind
from holo_lite.model.clip import Clip, MakeClip
from holo_lite.model.compute import Arrival, Compute
from holo_lite.model.key_values import KeyValues
from holo_lite.model.parts import Part
from holo_lite.plan.ladder import shortage_of
from holo_lite.plan.plan import Plan
from holo_lite.ranks.group import Parted
from holo_lite.ranks.meeting import Meeting as RankMeeting
from holo_lite.ranks.parcel import Parcel, passed
from holo_lite.ranks.team import Left, Team, Why
from holo_lite.runs.state import Cache
from holo_lite.sampling.meeting import Alone, Meeting
from holo_lite.sampling.schedule import Schedule
from holo_lite.sampling.step_cache import StepCache
from holo_lite.streaming.lane import PinError


class ShortElsewhere(RuntimeError):  # noqa: N818 - as PyTorch's own, which it stands for
    """Another rank is out of memory: this one tries again, too."""


class Steps(Protocol):
    """How far the steps of a clip are."""

    done: int
    latents: Tensor
    cache: StepCache

    @property
    def schedule(self) -> Schedule:
        """All of them."""


class Together(Protocol):
    """Whoever computes a clip's steps, alone or with others."""

    def branches(self, count: int) -> Sequence[int]:
        """Which of so many guidance branches are computed here."""

    def computing(self, compute: Compute) -> Compute:
        """How a forward computes, where it meets the others' in self-attention."""

    def of_clips(self, make: MakeClip) -> MakeClip:
        """What makes a clip, with the share of it that is computed here."""

    def attempt(self, steps: Steps, plan: Plan) -> AbstractContextManager[tuple[Meeting, Plan]]:
        """One attempt at the steps that are left: where all meet, and the plan as all can keep it."""


class ByItself:
    """One rank, which computes everything."""

    def branches(self, count: int) -> Sequence[int]:
        """All of them."""
        return range(count)

    def computing(self, compute: Compute) -> Compute:
        """As it does."""
        return compute

    def of_clips(self, make: MakeClip) -> MakeClip:
        """The whole clip."""
        return make

    @contextmanager
    def attempt(self, _steps: Steps, plan: Plan) -> Iterator[tuple[Meeting, Plan]]:
        """Nobody to ask."""
        yield Alone(), plan


@dataclass
class WithOthers:
    """One rank of a team, at work on a task. parts: what each rank computes."""

    team: Team
    task: str
    parts: Sequence[Part]
    layout: Clip
    _attempts: int = field(default=0, init=False)
    _meeting: RankMeeting | None = field(default=None, init=False)

    @property
    def part(self) -> Part:
        """What is computed here."""
        return self.parts[self.team.rank]

    def branches(self, count: int) -> Sequence[int]:
        """Which of so many guidance branches are computed here."""
        return self.part.first(count)

    def computing(self, compute: Compute) -> Compute:
        """How a forward computes, where it meets the others' in self-attention."""
        return replace(compute, exchange=self)

    def of_clips(self, make: MakeClip) -> MakeClip:
        """What makes a clip, with the share of it that is computed here."""
        return self.part.of_clips(make)

    def shared(self, buffer: KeyValues, clip: Clip) -> Arrival:
        """As `holo_lite.model.compute.Exchange`."""
        assert self._meeting is not None, "in an attempt"
        return self._meeting.shared(buffer, clip)

    def divided(self, buffer: KeyValues, clip: Clip, shot: int, first: int) -> Arrival:
        """As `holo_lite.model.compute.Exchange`."""
        assert self._meeting is not None, "in an attempt"
        return self._meeting.divided(buffer, clip, shot, first)

    @contextmanager
    def attempt(self, steps: Steps, plan: Plan) -> Iterator[tuple[Meeting, Plan]]:
        """One attempt at the steps that are left: where all meet, and the plan as all can keep it.

        Raises `ShortElsewhere` or `PinError` where another rank has too little memory for this attempt, `Cancelled`
        where it was cancelled there, and `RanksError` where another cannot go on, or is lost.
        """
        self._attempts += 1
        name = f"{self.task}.{self._attempts}"
        with self._meant(name):
            meeting, plan = self._begun(name, steps, plan)
            yield meeting, plan
            meeting.agreed(True)

    @contextmanager
    def meeting(self, name: str) -> Iterator[RankMeeting]:
        """A meeting before the first attempt."""
        name = f"{self.task}.{name}"
        with self._meant(name):
            self.team.gather(self.task, name, {})
            yield self._met(name)

    def _begun(self, name: str, steps: Steps, plan: Plan) -> tuple[RankMeeting, Plan]:
        word = {"joint": plan.joint, "step_cache": plan.step_cache, "whole": steps.cache.whole}
        words = self.team.gather(self.task, name, word)
        joint, cached, whole = (all(each[key] for each in words) for key in word)
        meeting = self._met(name)
        steps.cache.whole = whole
        self._take_up(steps, meeting, plan)
        return meeting, replace(plan, joint=joint, step_cache=cached)

    def _met(self, name: str) -> RankMeeting:
        meeting = self._meeting = self.team.meeting(name, self.parts)
        meeting.join(self.layout)
        return meeting

    def _take_up(self, steps: Steps, meeting: RankMeeting, plan: Plan) -> None:
        """Go on from the first rank's state."""
        if self.team.leads:
            state = steps.cache.state()
            tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
            numbers = {name: value for name, value in state.items() if not isinstance(value, Tensor)}
            own = {f"cache {name}": value for name, value in tensors.items()}
            passed(meeting, Parcel({"done": steps.done, "cache": numbers}, {**own, "steps": steps.latents}))
            return
        parcel = passed(meeting)
        steps.done, steps.latents = parcel.facts["done"], parcel.tensors.pop("steps")
        known: Cache = {
            **parcel.facts["cache"],
            **{name.removeprefix("cache "): value for name, value in parcel.tensors.items()},
        }
        steps.cache.know(known, steps.schedule, steps.latents.device)
        if steps.cache.computed is not None:  # its chunks are the first rank's, who may have more room
            steps.cache.computed = replace(steps.cache.computed, chunks=plan.chunks)

    @contextmanager
    def _meant(self, name: str) -> Iterator[None]:
        """Say why this rank leaves, and find out why another did."""
        try:
            yield
        except Left as left:
            raise _raised(left) from None
        except Parted as error:
            raise _raised(self.team.meaning(self.task, name, error)) from None
        except BaseException as error:
            self.team.leave(name, why_of(error))
            raise
        finally:
            if self._meeting is not None:
                self._meeting.part()
            self._meeting = None


def why_of(error: BaseException) -> Why:
    """What others are to know of an error that ends something here."""
    if isinstance(error, RuntimeError | PinError) and (shortage := shortage_of(error)) is not None:
        return Why(shortage, in_a_line(error))
    if isinstance(error, Cancelled | GeneratorExit | KeyboardInterrupt):
        return Why("cancelled", "cancelled")
    return Why("failed", str(error) if isinstance(error, HoloError) else with_kind(error))


def _raised(left: Left) -> Exception:
    """What it means here that another has left."""
    if left.why.kind == "device":
        return ShortElsewhere(f"out of memory on {left}")
    if left.why.kind == "pinned":
        return PinError(str(left))
    return Cancelled() if left.why.kind == "cancelled" else RanksError(str(left))
