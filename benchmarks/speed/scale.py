"""What is timed: the shape of the model, the clips, the prompts, and how much of it a card can run.

A clip is one denoising step's input: latents, a timestep, and a prompt for each guidance branch. The first prompt
has windows as a storyboard's has: a caption for the whole and one for each shot, and padding. The second has none.

A step of all 40 blocks would take minutes in some of the ways, and each is run several times. So as many blocks are
run as the slowest way can do in seconds, and the seconds are scaled by the operations of the whole forward over
those that were run. Blocks are alike, and embeddings and head are less than a thousandth of either. One way is run
whole beside that, which shows what the scaling is worth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from benchmarks.timing import A_FEW, Repeats
from holo_lite.config import HOLOCINE_14B, TEXT_ROWS, Attention, DiTConfig
from holo_lite.model.clip import Chunks, Clip
from holo_lite.plan.cost import forward_operations
from holo_lite.plan.rate import measure
from holo_lite.plan.waves import whole_waves
from holo_lite.story.shots import ShotLayout, even_cuts
from holo_lite.text.windows import Windows

FRAMES = (33, 81, 241)
SHOTS = 5
CAPTION = 48  # tokens of each caption
TIMESTEP = 900.0
WEIGHTS_SHARE = 0.4  # of a card's memory; the rest is for what is as long as the clip
SLOWEST = 20.0  # seconds that a dense step may take: four of them are done in a part, and there are dozens of parts
COUNTS = (1, 2, 4, 5, 8, 10, 20, 40)  # of blocks, so that a rate that is a little other is the same run
USUAL = Chunks()
WASTE = 1.6  # how much slower than its arithmetic the slowest way is taken to be


@dataclass(frozen=True)
class Scale:
    """The model (`whole`), how many of its blocks are run, and the clips."""

    small: bool
    whole: DiTConfig
    layers: int
    height: int
    width: int
    dtype: torch.dtype
    branches: int = 2
    repeats: Repeats = A_FEW
    chunks: Chunks = USUAL

    @classmethod
    def full(cls, device: torch.device, layers: int | None = None) -> Scale:
        """The released shape at 480x832, bf16, with as many blocks as the card can run, in chunks that suit it.

        A shot's inputs are held, as by a plan where all blocks stay.
        """
        processors = torch.cuda.get_device_properties(device).multi_processor_count
        chunks = replace(whole_waves(processors), holding=True)
        found = cls(False, HOLOCINE_14B, HOLOCINE_14B.num_layers, 480, 832, torch.bfloat16, chunks=chunks)
        return replace(found, layers=layers or runnable_layers(found, device))

    @classmethod
    def tiny(cls) -> Scale:
        """A shape that takes a CPU a second."""
        config = DiTConfig(384, 3, 1024, 2, text_dim=64, freq_dim=64)
        return cls(True, config, config.num_layers, 32, 64, torch.float32, repeats=Repeats(5, 5))

    @cached_property
    def config(self) -> DiTConfig:
        """The model as it is run."""
        return replace(self.whole, num_layers=self.layers)

    @property
    def entire(self) -> Scale:
        """The same with all blocks."""
        return replace(self, layers=self.whole.num_layers)

    def layout(self, frames: int) -> ShotLayout:
        """A clip of so many frames in five shots."""
        return ShotLayout.from_frames(frames, even_cuts(frames, SHOTS), self.height, self.width)

    def factor(self, frames: int, attention: Attention) -> float:
        """The whole forward's operations over those of the blocks that are run."""
        layout = self.layout(frames)
        whole, run = (forward_operations(config, layout, attention).total for config in (self.whole, self.config))
        return whole / run


def runnable_layers(scale: Scale, device: torch.device) -> int:
    """Blocks whose bf16 weights leave room for the clip, and whose dense forward ends in time."""
    layout = scale.layout(max(FRAMES))
    block = replace(scale.whole, num_layers=1)
    weights = 2 * (8 * block.dim**2 + 2 * block.dim * block.ffn_dim)
    memory = torch.cuda.get_device_properties(device).total_memory
    linear, attention = measure(device)
    torch.cuda.empty_cache()
    operations = forward_operations(block, layout, "full")
    seconds = scale.branches * WASTE * (operations.linear / linear + operations.attention / attention)
    fitting = max(1, min(int(WEIGHTS_SHARE * memory / weights), int(SLOWEST / seconds)))
    return max(count for count in COUNTS if count <= fitting)


@dataclass(frozen=True)
class Prompt:
    """A prompt as the text encoder leaves it: rows (512, text_dim), and those that each shot sees, or None: all."""

    rows: Tensor
    windows: tuple[Tensor, ...] | None


@dataclass(frozen=True)
class Inputs:
    """What a forward takes. latents: (16, F, h, w) fp32."""

    clip: Clip
    latents: Tensor
    timestep: Tensor
    prompts: tuple[Prompt, ...]

    @classmethod
    def of(cls, scale: Scale, frames: int, device: torch.device) -> Inputs:
        """Random ones, on the device."""
        layout, generator = scale.layout(frames), torch.Generator().manual_seed(frames)
        shape = (scale.whole.in_dim, layout.latent_frames, 2 * layout.rows, 2 * layout.columns)
        latents = torch.randn(shape, generator=generator).to(device)
        prompts = tuple(_prompt(scale, index, device) for index in range(scale.branches))
        return cls(Clip(layout, chunks=scale.chunks), latents, torch.tensor(TIMESTEP, device=device), prompts)


def windows_of(shots: int) -> list[tuple[int, ...]]:
    """The rows that each shot sees of a prompt whose captions are all of the same length."""
    edges = [CAPTION * index for index in range(shots + 2)]
    windows = Windows((0, edges[1]), tuple(pairwise(edges[1:])))
    return [windows.rows(shot) for shot in range(shots)]


def _prompt(scale: Scale, branch: int, device: torch.device) -> Prompt:
    """The first branch's prompt has windows, the negative one has none."""
    rows = torch.randn(TEXT_ROWS, scale.whole.text_dim, generator=torch.Generator().manual_seed(branch))
    rows = rows.to(device, scale.dtype)
    if branch:
        return Prompt(rows, None)
    return Prompt(rows, tuple(torch.tensor(seen, device=device) for seen in windows_of(SHOTS)))
