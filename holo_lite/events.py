"""The events of a run, in the order in which they happen."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from holo_lite.errors import RunError
from holo_lite.plan.plan import Plan
from holo_lite.progress import Phase, PhaseAdvanced as PhaseAdvanced, PhaseStarted as PhaseStarted
from holo_lite.sampling.sampler import Progress
from holo_lite.settings import RunSettings


@dataclass(frozen=True)
class Resolved:
    """The run is decided, and everything that can be checked without weights is.

    `notes` are for people; `why` says, on one line, why the plan's profile was chosen, `computing` how the model
    computes, a line a choice; `work` is how many operations each phase has by the plan, the steps of an earlier
    session included: what a time for the whole run is weighted by.
    """

    settings: RunSettings = field(repr=False)
    notes: tuple[str, ...]
    plan: Plan = field(repr=False)
    why: str
    computing: tuple[str, ...] = ()
    work: Mapping[Phase, float] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class StepDone:
    """A denoising step is done.

    progress: the latents, and where they would end if the flow went straight on, (16, F, H/8, W/8) fp32 on the
    run's device. memory: most bytes tensors have held on the card so far, None on a CPU; planned: what the plan
    allows them.
    seconds: what the step took, what was read before its first block included; waited: for how many of them
    computation had to wait for a block's weights.
    """

    progress: Progress
    memory: int | None = None
    planned: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.done} of {self.steps}, {self.seconds:.2f} s)"

    @property
    def done(self) -> int:
        """How many steps are done: 1 after the first."""
        return self.progress.step.index + 1

    @property
    def steps(self) -> int:
        """How many steps the run has."""
        return self.progress.steps

    @property
    def skipped(self) -> bool:
        """Whether the step did without its forward, by the step cache."""
        return self.progress.skipped

    @property
    def waited_share(self) -> float:
        """What part of the step was waiting, from 0 to 1."""
        return self.waited / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class GoingOn:
    """The run was begun before, and continues after `done` of `steps` steps from the state in `folder`.

    `changes` are circumstances that have changed, such as ``torch 2.13.0, now 2.14.0``: if there are any, the
    result may differ in the last bits from that of an uninterrupted run.
    """

    folder: Path
    done: int
    steps: int
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class NotSaved:
    """The state cannot be saved, and why. The run continues; if interrupted, it resumes after step `saved`."""

    why: str
    saved: int


@dataclass(frozen=True)
class PreviewDone:
    """A preview shows where the run was heading after `done` steps."""

    path: Path
    done: int


@dataclass(frozen=True)
class NoLatents:
    """The latents of a finished video cannot be kept next to it, and why. The video is whole."""

    why: str


@dataclass(frozen=True)
class NoPreview:
    """A preview cannot be drawn or written, and why; there will be no more."""

    why: str


@dataclass(frozen=True)
class SteppedDown:
    """Memory ran out; the run continues with a smaller plan. `change` describes what is smaller, for a person."""

    plan: Plan = field(repr=False)
    change: str


@dataclass(frozen=True)
class FrameDone:
    """A frame is decoded, and on its way into the video. pixels: (H, W, 3) uint8 on the CPU."""

    index: int
    pixels: Tensor = field(repr=False)


@dataclass(frozen=True)
class LatentsDone:
    """Denoising is done. latents: clean, (16, F, H/8, W/8) fp32 on the run's device; plan: the one that did it."""

    latents: Tensor = field(repr=False)
    settings: RunSettings = field(repr=False)
    plan: Plan = field(repr=False)


@dataclass(frozen=True)
class Finished:
    """The sink has all frames; a video and its contact sheet have their names (None: there is no such file).

    seconds: how long it took since the run began, or since it was continued; a sink need not know it.
    """

    video: Path | None
    sheet: Path | None
    settings: RunSettings = field(repr=False)
    seconds: float = field(default=0.0, compare=False)


Event = (
    Resolved
    | GoingOn
    | NotSaved
    | PhaseStarted
    | PhaseAdvanced
    | StepDone
    | PreviewDone
    | NoPreview
    | NoLatents
    | SteppedDown
    | FrameDone
    | LatentsDone
    | Finished
)

Last = TypeVar("Last", Finished, LatentsDone)
Events = Generator[Event, None, None]  # what drives a run: close it to cancel


def finish(events: Iterable[Event]) -> Finished:
    """Drive a run to its end, and give what it ends with.

    The events before it are dropped one by one: a list of them would hold the latents of every step on the card and
    every frame of the video. Raises what the run raises, and `RunError` for events that were taken before.
    """
    return _last(events, Finished)


def latents_of(events: Iterable[Event]) -> LatentsDone:
    """Drive a run's denoising to its end, and give what it ends with. Raises as `finish`."""
    return _last(events, LatentsDone)


def _last(events: Iterable[Event], kind: type[Last]) -> Last:
    """The last event, which is of this kind. Raises `RunError` for events that do not end so."""
    last = None
    for event in events:
        last = event
    if isinstance(last, kind):
        return last
    if last is None:
        raise RunError("this run has no events left: it was finished or closed before; call generate for another")
    wanted = "finish" if isinstance(last, Finished) else "latents_of"
    raise RunError(f"these events end with {type(last).__name__}, not {kind.__name__}; use {wanted} for them")
