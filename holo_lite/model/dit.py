"""One expert: the Wan 2.2 A14B transformer, its parameters under the names of the released files.

`WanDiT.forward` is the whole network: patches in, blocks over one residual stream per guidance branch,
patches out. Nothing is as long as the clip but the streams, the latents, and what is returned. A block is
one call with all streams, so that its weights are brought to the device once per step.

What the blocks add to a stream is its residual. A forward can leave it in a buffer, and `WanDiT.reuse` adds it
again at another timestep, to patches embedded again: a velocity without a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from holo_lite.config import PATCH, DiTConfig
from holo_lite.model.carrying import is_carried
from holo_lite.model.clip import Clip, portions
from holo_lite.model.compute import PLAIN, Compute
from holo_lite.model.equations import modulate, sinusoid
from holo_lite.model.layer_weights import AttentionLayer, FeedForward
from holo_lite.model.layers import Modulation, TextRows, cross_attention_, feed_forward_, self_attention_
from holo_lite.model.linear import Linear
from holo_lite.model.patches import read_patches, write_patches
from holo_lite.model.positions import Positions
from holo_lite.model.whole_block import Layers, whole_block_


class Block(nn.Module):
    """Self-attention, cross-attention and feed-forward, each in place on the residual streams."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.eps, self.widths = config.eps, (config.dim, config.ffn_dim)
        self.modulation = nn.Parameter(torch.empty(1, 6, config.dim))
        self.self_attn = AttentionLayer(config.dim, config.num_heads, config.eps)
        self.cross_attn = AttentionLayer(config.dim, config.num_heads, config.eps)
        self.norm3 = nn.LayerNorm(config.dim, config.eps)
        self.ffn = FeedForward(config.dim, config.ffn_dim)

    def forward(
        self,
        streams: Sequence[Tensor],
        texts: Sequence[TextRows],
        modulation: Tensor,
        clip: Clip,
        positions: Positions,
        compute: Compute = PLAIN,
    ) -> None:
        """Change each stream (rows, d) in place. modulation: (6, d), the timestep's part."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation[0] + modulation
        attending, feeding = Modulation(shift1, scale1, gate1), Modulation(shift2, scale2, gate2)
        if is_carried(clip, compute.linear, *self.widths):
            layers = Layers(self.self_attn, attending, self.cross_attn, self.norm3, self.ffn, feeding)
            whole_block_(streams, texts, layers, clip, positions, compute)
            return
        self_attention_(streams, self.self_attn, attending, clip, positions, compute)
        cross_attention_(streams, texts, self.cross_attn, self.norm3, clip, compute)
        feed_forward_(streams, self.ffn, feeding, self.eps, clip, compute)


class Head(nn.Module):
    """The last projection, from a token to its patch."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.head = Linear(config.dim, config.out_dim * PATCH**2)
        self.modulation = nn.Parameter(torch.empty(1, 2, config.dim))


class WanDiT(nn.Module):
    """An expert of HoloCine: velocity of the latents at a timestep, for one or more prompts at once."""

    def __init__(self, config: DiTConfig, compute: Compute = PLAIN) -> None:
        super().__init__()
        dim = config.dim
        self.config, self.compute = config, compute
        self.patch_embedding = nn.Conv3d(config.in_dim, dim, (1, PATCH, PATCH), (1, PATCH, PATCH))
        self.text_embedding = nn.Sequential(
            Linear(config.text_dim, dim), nn.GELU(approximate="tanh"), Linear(dim, dim)
        )
        self.time_embedding = nn.Sequential(Linear(config.freq_dim, dim), nn.SiLU(), Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.head = Head(config)

    @property
    def dtype(self) -> torch.dtype:
        """The compute dtype, that of the residual stream."""
        return self.patch_embedding.weight.dtype

    def embed_text(self, context: Tensor) -> Tensor:
        """Text encoder rows (512, text_dim), zero after EOS, → (512, d). The same in every step."""
        embedded: Tensor = self.text_embedding(context.to(self.dtype))
        return embedded

    def embed_time(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Scalar timestep in 0…1000 → the head's (d,) and the blocks' (6, d) modulation."""
        rounded = timestep.to(self.dtype)  # the model was trained on timesteps of its own precision
        embedded = self.time_embedding(sinusoid(rounded, self.config.freq_dim).to(self.dtype))
        return embedded, self.time_projection(embedded).view(6, -1)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        texts: Sequence[TextRows],
        clip: Clip,
        residuals: Sequence[Tensor] = (),
    ) -> list[Tensor]:
        """Velocity for each prompt.

        latents: (16, F, h, w), any float dtype; timestep: scalar on the same device; texts: one per
        guidance branch, rows from `embed_text`; residuals: none, or one a branch, (rows, d) in the compute
        dtype, to be filled. → as many tensors like `latents`, in its dtype; zero in frames that are given, and for
        tokens that another rank computes, so that the ranks' velocities add up to the clip's.
        """
        positions = Positions.of(clip.layout, self.config.head_dim, latents.device)
        embedded, modulation = self.embed_time(timestep)
        streams = self._embed_patches(latents, len(texts), clip, positions)
        _enter(streams, residuals)
        for block in self.blocks:
            block(streams, texts, modulation, clip, positions, self.compute)
        _leave(streams, residuals)
        return [self._project(x, embedded, latents, clip, positions) for x in streams]

    def reuse(self, latents: Tensor, timestep: Tensor, residuals: Sequence[Tensor], clip: Clip) -> list[Tensor]:
        """Velocity for each residual that a forward has left, with no block computed. → as `forward`."""
        positions = Positions.of(clip.layout, self.config.head_dim, latents.device)
        embedded, _ = self.embed_time(timestep)
        velocities = []
        for residual in residuals:
            (x,) = self._embed_patches(latents, 1, clip, positions)
            velocities.append(self._project(x.add_(residual), embedded, latents, clip, positions))
        return velocities

    def _embed_patches(self, latents: Tensor, count: int, clip: Clip, positions: Positions) -> list[Tensor]:
        weight = self.patch_embedding.weight.flatten(1)
        streams = [latents.new_empty(clip.stream_rows, self.config.dim, dtype=self.dtype) for _ in range(count)]
        for tokens in _chunks((clip.here,), clip):
            patches = read_patches(latents, positions, tokens).to(self.dtype)
            embedded = F.linear(patches, weight, self.patch_embedding.bias)
            for x in streams:
                x[clip.rows(tokens)] = embedded
            del patches, embedded  # they outlive an iteration otherwise, and are there with the next chunk's
        return streams

    def _project(self, x: Tensor, embedded: Tensor, latents: Tensor, clip: Clip, positions: Positions) -> Tensor:
        shift, scale = self.head.modulation[0] + embedded
        project = self.head.head.unpacked()
        velocity = torch.empty_like(latents) if clip.is_whole else torch.zeros_like(latents)
        for tokens in _chunks(clip.moving, clip):
            patches = project(modulate(x[clip.rows(tokens)], shift, scale, self.config.eps))
            write_patches(velocity, positions, tokens, patches)
            del patches
        return velocity


def _chunks(runs: Iterable[range], clip: Clip) -> Iterator[slice]:
    """Runs of tokens in portions."""
    for run in runs:
        yield from portions(run, clip.chunks.attention)


def _enter(streams: Sequence[Tensor], residuals: Sequence[Tensor]) -> None:
    """Note what the blocks begin with, in the buffers that will hold what they add."""
    for residual, x in zip(residuals, streams, strict=bool(residuals)):
        residual.copy_(x)


def _leave(streams: Sequence[Tensor], residuals: Sequence[Tensor]) -> None:
    """Take it off what they end with, in place."""
    for residual, x in zip(residuals, streams, strict=bool(residuals)):
        torch.sub(x, residual, out=residual)
