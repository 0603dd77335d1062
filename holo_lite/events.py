"""What a run tells whoever drives it, in the order in which it happens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from holo_lite.plan.fit import Plan
from holo_lite.sampler import Progress
from holo_lite.settings import RunSettings

Phase = Literal["text", "denoise", "decode"]


@dataclass(frozen=True)
class Resolved:
    """The run is decided, and everything that can be checked without weights is.

    `notes` are for people; `why` says, on one line, why the plan's profile was chosen.
    """

    settings: RunSettings
    notes: tuple[str, ...]
    plan: Plan
    why: str


@dataclass(frozen=True)
class PhaseStarted:
    """A phase begins; `total` is the number of events it will send (0: it sends none)."""

    phase: Phase
    total: int


@dataclass(frozen=True)
class StepDone:
    """A denoising step is done.

    memory: most bytes tensors have held on the card so far, None on a CPU; planned: what the plan allows them.
    seconds: what the step took, what was read before its first block included; waited: for how many of them
    computation had to wait for a block's weights.
    """

    progress: Progress
    memory: int | None = None
    planned: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    @property
    def waited_share(self) -> float:
        """What part of the step was waiting, from 0 to 1."""
        return self.waited / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class SteppedDown:
    """Memory ran out; the run goes on with a smaller plan. `change` says what is smaller, for a person."""

    plan: Plan
    change: str


@dataclass(frozen=True)
class FrameDone:
    """A frame is decoded and written. pixels: (H, W, 3) uint8 on the CPU."""

    index: int
    pixels: Tensor


@dataclass(frozen=True)
class Finished:
    """The video and its contact sheet stand under their final names."""

    video: Path
    sheet: Path
    settings: RunSettings


Event = Resolved | PhaseStarted | StepDone | SteppedDown | FrameDone | Finished
