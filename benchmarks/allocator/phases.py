"""A run as the runtime makes it, phase by phase, on a card that has only the allocator's model for memory.

The text encoder, both experts with their switch, and the decoder are opened from a hollow model and run at full
size by the runtime's own code. Three things are not its own: bytes are neither read nor copied, since there are
none; what a card computes by kernels of this project makes its results and no more; and of all blocks of an expert
that are visited alike only the first is computed (`WatchedCard.once`).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.allocator.watching import WatchedCard
from benchmarks.count import stand_ins
from benchmarks.count.block import flash
from benchmarks.count.tally import CARD, Tally
from holo_lite.config import HOLOCINE_14B, TEXT_ROWS
from holo_lite.eightbit.limits import LinearMode
from holo_lite.eightbit.rows import Rows
from holo_lite.film.vae import to_uint8
from holo_lite.film.vae_load import WeightTree
from holo_lite.model.clip import Clip
from holo_lite.model.compute import Compute
from holo_lite.model.dit import Block
from holo_lite.model.operations import Ops
from holo_lite.plan.plan import Plan
from holo_lite.render.decode_phase import FrameDecoder
from holo_lite.render.denoise_phase import forwards_left, residency_of
from holo_lite.sampling.sampler import Context, Guidance, initial_noise, sample
from holo_lite.sampling.schedule import Schedule
from holo_lite.story.shots import ShotLayout
from holo_lite.streaming.experts import ExpertSetup, StreamedExperts
from holo_lite.streaming.lane import Buffer
from holo_lite.streaming.lanes import CpuLane
from holo_lite.text.encoder import TextEncoder

BF16 = torch.bfloat16
STEPS = 4  # two of each expert: the first, and one like all that follow
PROMPTS = (TEXT_ROWS, TEXT_ROWS - 3)  # tokens: the most there are, and nearly so, but no multiple of 8
DECODED = 5  # latent frames: from the third on each is like the last
ALIGNED = 8  # numbers; strides of a bias that PyTorch's attention takes as it is
Mark = Callable[[str], None]


@dataclass(frozen=True)
class HollowRun:
    """A run of a hollow model under `scheme`, in `folder`, by a plan. `fused`, `linear`: how the layers compute."""

    folder: Path
    scheme: str
    layout: ShotLayout
    plan: Plan
    card: WatchedCard
    fused: bool
    linear: LinearMode
    tally: Tally = field(default_factory=Tally)  # which the stand-ins of kernels charge, and nobody reads

    def run(self, mark: Mark) -> None:
        """Do all of it; `mark` is called with the name of each phase of the plan as it begins."""
        way = self.scheme, self.linear, self.fused
        with _without_bytes(self.card, way), stand_ins.eight_bits(self.tally), self.card, stand_ins.own_tables():
            mark("text")
            self.card.once(("text", self.scheme), self._read)
            latents = self._denoised(Guidance.of(self._contexts(), 5.0, 1.0), mark)
            mark("decode")
            decoded = latents[:, :DECODED]
            self.card.once(("decode", decoded.shape, self.plan.tile), lambda: self._decode(decoded))

    def _read(self) -> None:
        """Read both prompts."""
        with closing(TextEncoder.open(self.folder / "text_encoder", dtype=BF16, device=CARD)) as encoder:
            for count in PROMPTS:
                encoder.encode([1] * count).cpu()
        del encoder
        self._clear()

    def _contexts(self) -> list[Context]:
        """What was read; of the first prompt every shot sees all, which is the most it may."""
        rows = torch.zeros(TEXT_ROWS, HOLOCINE_14B.text_dim, dtype=BF16)
        seen = [torch.arange(TEXT_ROWS).to(CARD) for _ in range(self.layout.shots)]
        return [Context(rows.to(CARD), tuple(seen)), Context(rows.to(CARD))]

    def _denoised(self, guidance: Guidance, mark: Mark) -> Tensor:
        schedule, plan, expert = Schedule.of(STEPS), self.plan, ""
        clip = Clip(self.layout, "sparse", plan.chunks)
        latents = initial_noise(clip, 0).to(CARD)
        forwards = forwards_left(schedule, 0, guidance, joint=plan.joint)
        with StreamedExperts(self._setup(), forwards) as experts:
            experts.change(forwards, residency_of(plan))
            steps = sample(experts, latents, guidance, schedule, clip, joint=plan.joint)
            for step in schedule.steps:
                if step.expert != expert:
                    mark(expert := step.expert)
                progress = next(steps)
                latents = progress.latents
            steps.close()
        del experts, steps, progress, guidance
        self._clear()
        return latents

    def _clear(self) -> None:
        """As the runtime does between phases."""
        gc.collect()
        self.card.empty_cache()

    def _setup(self) -> ExpertSetup:
        ops = stand_ins.fused(self.tally) if self.fused else Ops()
        paths = {name: self.folder / name for name in ("high_noise", "low_noise")}
        return ExpertSetup(paths, BF16, CARD, Compute(flash, self.linear, ops))  # type: ignore[arg-type]

    def _decode(self, latents: Tensor) -> None:
        decoder = FrameDecoder(self.folder / "vae", BF16, CARD)
        for frame in decoder.frames(latents[:, :DECODED], self.plan.tile):
            to_uint8(frame)
        del frame, decoder
        self._clear()


class CardLane(CpuLane):
    """A card's lane on which nothing is copied. Host memory is none of the card's."""

    def host_buffer(self, nbytes: int, *, pinned: bool) -> Buffer:  # noqa: ARG002 - as asked
        """Nothing."""
        return Buffer(torch.empty(0, dtype=torch.uint8), pinned=pinned)

    def device_buffer(self, nbytes: int) -> Buffer:
        """Memory of the card."""
        return Buffer(torch.empty(nbytes, dtype=torch.uint8, device=CARD))

    def copy(self, host: Buffer, slot: Buffer, nbytes: int) -> None:
        """Nothing."""

    def move(self, slot: Buffer, place: Buffer, nbytes: int) -> None:
        """Nothing."""


@contextmanager
def _without_bytes(card: WatchedCard, way: Hashable) -> Iterator[None]:
    """Nothing is read or copied; networks without memory take none; and blocks that are alike are run once."""
    with ExitStack() as stack:
        for user in ("experts", "blocks"):
            stack.enter_context(mock.patch(f"holo_lite.streaming.{user}.lane_for", return_value=CardLane()))
        stack.enter_context(mock.patch("holo_lite.streaming.disk.DiskReader.read"))
        for place in SKELETONS:
            module, _, name = place.rpartition(".")
            built = getattr(__import__(module, fromlist=[name]), name)
            stack.enter_context(mock.patch(place, card.quietly(built)))
        stack.enter_context(mock.patch.object(WeightTree, "of", card.quietly(WeightTree.of)))
        stack.enter_context(mock.patch("holo_lite.eightbit.product.reference", _multiplied))
        stack.enter_context(mock.patch("torch.nn.functional.scaled_dot_product_attention", attended))
        stack.enter_context(mock.patch.object(Block, "forward", _once(card, way, Block.forward)))
        yield


def _multiplied(x: Rows, weight: Rows, _bias: Tensor | None, out: Tensor | None = None) -> Tensor:
    """A product in 8 bits as a card makes it: its result, and nothing on the way."""
    return x.codes.new_empty(len(x.codes), len(weight.codes), dtype=x.dtype) if out is None else out


def attended(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, **_: Any) -> Tensor:
    """Attention of (1, H, n, D) as a card computes it: no scores, but a copy of a bias that lies otherwise."""
    copy = None if attn_mask is None or _is_aligned(attn_mask) else _with_rim(attn_mask)
    batch, heads, rows, _width = q.shape
    out = k.new_empty(batch, rows, heads, v.shape[-1]).transpose(1, 2)
    del copy
    return out


def _is_aligned(bias: Tensor) -> bool:
    return bias.stride(-1) == 1 and not any(stride % ALIGNED for stride in bias.stride()[:-1])


def _with_rim(bias: Tensor) -> Tensor:
    return F.pad(bias, (0, ALIGNED - bias.shape[-1] % ALIGNED))


SKELETONS = (
    "holo_lite.streaming.experts.skeleton",
    "holo_lite.text.encoder._build",
)


def _once(card: WatchedCard, way: Hashable, forward: Callable[..., None]) -> Callable[..., None]:
    def visit(block: Block, streams: Any, texts: Any, modulation: Tensor, clip: Clip, *given: Any) -> None:
        card.once(
            (way, clip, len(streams), tuple(text.windows is None for text in texts)),
            lambda: forward(block, streams, texts, modulation, clip, *given),
        )

    return visit
