"""The sampler: an Euler loop over the schedule that yields its state after every step.

It is a generator, so the caller gets progress, previews, checkpoints and cancelling for free:
take the steps you want, keep what you like of them, stop when you please. It never sees a file, and knows
of the experts only that someone lends it the right one.

Two things may save forwards: guidance that ends before the schedule does, after which the positive branch is
computed alone, and a step cache.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from holo_lite.config import PATCH, Expert
from holo_lite.model.clip import Clip
from holo_lite.model.dit import WanDiT
from holo_lite.model.equations import clean_estimate, euler, guide
from holo_lite.model.layers import TextRows
from holo_lite.model.relay import relay_rows
from holo_lite.sampling.meeting import Alone, Meeting
from holo_lite.sampling.schedule import Schedule, Step
from holo_lite.sampling.step_cache import Computed, StepCache

SETS = 6  # of latents at once, after a forward: the last step's two, those of both branches, two that come of them


@dataclass(frozen=True)
class Context:
    """A prompt as the text encoder left it: rows (512, text_dim), zero after EOS, and its windows.

    `relay` are the rows of the shots' captions, where every shot sees all of them, but less from afar.
    """

    rows: Tensor
    windows: tuple[Tensor, ...] | None = None
    relay: tuple[range, ...] | None = None

    def embedded(self, model: WanDiT, clip: Clip) -> TextRows:
        """It as an expert's blocks see it."""
        rows = model.embed_text(self.rows)
        if self.relay is None:
            return TextRows(rows, self.windows)
        return TextRows(rows, relay=relay_rows(self.relay, clip.layout, rows))


@dataclass(frozen=True)
class Guidance:
    """What steers a run. Without `negative`, or at scale 1, one branch is enough.

    `until` is the part of the schedule, from its beginning, on which both branches are computed. `low` is the scale
    in steps of the low-noise expert, if it has one of its own.
    """

    positive: Context
    negative: Context | None = None
    scale: float = 1.0
    until: float = 1.0
    low: float | None = None

    @classmethod
    def of(cls, contexts: Sequence[Context], scale: float, until: float, low: float | None = None) -> Guidance:
        """What steers a run: its prompt's context, then its negative prompt's, if it has one."""
        positive, *negative = contexts
        return cls(positive, next(iter(negative), None), scale, until, low)

    @property
    def contexts(self) -> list[Context]:
        """The branches to compute."""
        if self.negative is None or self.scale == 1.0:
            return [self.positive]
        return [self.positive, self.negative]

    def at(self, step: Step, schedule: Schedule) -> Guidance:
        """What steers one step: all of it at its expert's scale, or the positive branch alone."""
        if step.index >= schedule.part(self.until):
            return Guidance(self.positive)
        own = self.low if self.low is not None and step.expert == "low_noise" else self.scale
        return replace(self, scale=own, low=None)

    def combine(self, velocities: list[Tensor]) -> Tensor:
        """One velocity from those of the branches."""
        positive, *negative = velocities
        return guide(positive, negative[0], self.scale) if negative else positive


@dataclass(frozen=True)
class Progress:
    """State after a step: the latents, and where they would end if the flow went straight on.

    `skipped`: the step did without its forward; `computed`: what a step cache has to know from here on.
    """

    step: Step
    steps: int
    latents: Tensor  # (16, F, h, w) fp32
    clean: Tensor  # (16, F, h, w) fp32
    skipped: bool = False
    computed: Computed | None = None


class Experts(Protocol):
    """The owner of the two experts' weights."""

    def lend(self, expert: Expert) -> AbstractContextManager[WanDiT]:
        """Give an expert that is ready to run, for as long as the context lasts."""

    def skip(self, expert: Expert, forwards: int) -> None:
        """Note that the expert in use will be asked for `count` forwards fewer."""


Given = Callable[[Tensor, Step], Tensor]  # latents before a step → (16, F, h, w) as the expert sees them


def nothing_given(latents: Tensor, _step: Step) -> Tensor:
    """All latents as they are."""
    return latents


def initial_noise(clip: Clip, seed: int, channels: int = 16) -> Tensor:
    """Standard normal latents (channels, F, h, w), fp32, the same on every device for a seed."""
    layout = clip.layout
    shape = (1, channels, layout.latent_frames, PATCH * layout.rows, PATCH * layout.columns)
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32)[0]


def sample(
    experts: Experts,
    latents: Tensor,
    guidance: Guidance,
    schedule: Schedule,
    clip: Clip,
    *,
    joint: bool = True,
    first: int = 0,
    cache: StepCache | None = None,
    given: Given = nothing_given,
    meeting: Meeting | None = None,
) -> Generator[Progress, None, None]:
    """Denoise latents (16, F, h, w), fp32, on the experts' device, yielding after each step.

    `joint` serves both guidance branches in one visit of each block; otherwise they run one after the
    other, in half the memory, with the same result. `first` continues from the state after step first - 1, which
    for a `cache` is what it has of that step.

    Latents of the clip's frozen frames stay to the bit what they are in `latents`, after every step. `given` is
    asked before each for what the expert sees in their place.

    Where several ranks compute the clip, each runs this with a clip that has its share, and they decide and gather
    at the `meeting`: all come to the same latents, to the bit.
    """
    meeting = meeting or Alone()
    assert 0 <= first <= len(schedule), f"first: {first}"
    remaining, cache = schedule.steps[first:], cache or StepCache()
    computed, whole = cache.computed, cache.whole
    _set_apart(latents, SETS + 2 * any(cache.thresholds.values()) + (given is not nothing_given))
    for expert in dict.fromkeys(step.expert for step in remaining):
        with experts.lend(expert) as model:
            steps = [step for step in remaining if step.expert == expert]
            turn = _ExpertPass.of(model, guidance.at(steps[0], schedule), clip, cache, meeting, joint=joint)
            for step in steps:
                steering = guidance.at(step, schedule)
                branches = len(steering.contexts)
                skipped = meeting.agreed(cache.serves(computed, step, latents, branches, schedule))
                if skipped and whole:
                    experts.skip(expert, 1 if joint else len(meeting.branches(branches)))
                elif skipped and computed is not None:  # with the forwards that this step was to take
                    turn.make_again(computed, given(computed.latents, computed.step))
                whole = True
                velocity = steering.combine(turn.velocities(step, given(latents, step), branches, skipped=skipped))
                clean = clean_estimate(latents, velocity, step.sigma)
                if not skipped:
                    computed = cache.after(computed, step, latents, velocity, branches, clip.chunks)
                latents = euler(latents, velocity, step.sigma, step.sigma_next)
                yield Progress(step, len(schedule), latents, clean, skipped, computed)
            del model, turn  # otherwise this expert would stay in memory while the next one is opened


def _set_apart(latents: Tensor, sets: int) -> None:
    """Have an allocator get memory for the latents that steps leave behind, and keep it.

    Otherwise they take a piece of what the blocks' largest tensors have given back, and those find no place in the
    next step.
    """
    places = [torch.empty_like(latents) for _ in range(sets)]
    del places


@dataclass(frozen=True)
class _ExpertPass:
    """What the steps of one expert share."""

    model: WanDiT
    texts: list[TextRows]
    clip: Clip
    cache: StepCache
    meeting: Meeting
    joint: bool

    @classmethod
    def of(
        cls, model: WanDiT, guidance: Guidance, clip: Clip, cache: StepCache, meeting: Meeting, *, joint: bool
    ) -> _ExpertPass:
        """Embed the prompts of all branches that the expert's first step has: no later one has more."""
        contexts = guidance.contexts
        here = [contexts[branch] for branch in meeting.branches(len(contexts))]
        return cls(model, [context.embedded(model, clip) for context in here], clip, cache, meeting, joint)

    def make_again(self, computed: Computed, latents: Tensor) -> None:
        """Compute the residuals of a step again, to the bit: of what the expert saw then, in the same chunks."""
        then = replace(self, clip=replace(self.clip, chunks=computed.chunks))
        then.found(computed.step, latents, computed.branches, skipped=False)

    def velocities(self, step: Step, latents: Tensor, branches: int, *, skipped: bool) -> list[Tensor]:
        """One velocity a branch, of the whole clip."""
        return self.meeting.velocities(self.found(step, latents, branches, skipped=skipped), branches, latents)

    def found(self, step: Step, latents: Tensor, branches: int, *, skipped: bool) -> list[Tensor]:
        """One velocity a branch that is computed here: computed, or by what was kept of the last step that was."""
        here = len(self.meeting.branches(branches))
        timestep = torch.tensor(step.timestep, dtype=torch.float32, device=latents.device)
        if skipped:
            with torch.inference_mode():
                return self.model.reuse(latents, timestep, self.cache.residuals, self.clip)
        stream = self.clip.stream_rows, self.model.config.dim
        residuals = self.cache.room(step.expert, here, stream, self.model.dtype, latents.device)
        with torch.inference_mode():
            return self._compute(latents, timestep, self.texts[:here], residuals)

    def _compute(
        self, latents: Tensor, timestep: Tensor, texts: list[TextRows], residuals: list[Tensor]
    ) -> list[Tensor]:
        if self.joint:
            return self.model(latents, timestep, texts, self.clip, residuals=residuals)  # type: ignore[no-any-return]
        apart = [residuals[branch : branch + 1] for branch in range(len(texts))]
        return [
            self.model(latents, timestep, [text], self.clip, residuals=residual)[0]
            for text, residual in zip(texts, apart, strict=True)
        ]
