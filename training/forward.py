"""The transformer on a batch of clips at once, with gradients: the same function, computed another way.

The runtime goes shot by shot, in place, and needs no mask. Here whole clips of equal length pass together, and
who sees whom is a bias added before the softmax: 0 where a key is seen, minus infinity where not, and log 2 where
it is seen twice, as a shot's own first frame is. The rows of padding behind a prompt are all the same row, so one
stands for all of them with the logarithm of their number as its bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from holo_lite.config import PATCH, TEXT_ROWS
from holo_lite.model.dit import Block, WanDiT
from holo_lite.model.equations import sinusoid
from holo_lite.model.layer_weights import AttentionLayer
from holo_lite.model.positions import Positions
from holo_lite.story.shots import ShotLayout
from holo_lite.text.windows import Prompt

NEVER = -math.inf


@dataclass(frozen=True)
class Text:
    """Prompts of a batch. rows: (b, L, text_dim), the last one zero; bias: (b, 1, tokens, L)."""

    rows: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Sight:
    """Which tokens see which, and where they stand. bias: (b, 1, n, n); cos, sin: (n, 1, D/2)."""

    bias: Tensor
    cos: Tensor
    sin: Tensor


def velocity(model: WanDiT, latents: Tensor, timesteps: Tensor, text: Text, sight: Sight) -> Tensor:
    """Velocity of latents (b, 16, F, h, w) at timesteps (b,), 0 to 1000. → like `latents`, fp32."""
    weight = model.patch_embedding.weight
    x = F.conv3d(latents, weight, model.patch_embedding.bias, stride=(1, PATCH, PATCH)).flatten(2).transpose(1, 2)
    rows = model.text_embedding(text.rows)
    waves = torch.stack([sinusoid(t, model.config.freq_dim) for t in timesteps.bfloat16()]).float()
    embedded = model.time_embedding(waves)
    modulation = model.time_projection(embedded).unflatten(1, (6, -1))
    for block in model.blocks:
        assert isinstance(block, Block)
        x = _block(block, x, rows, modulation, text.bias, sight)
    shift, scale = (model.head.modulation + embedded[:, None]).unbind(1)
    patches = model.head.head(_modulate(x, shift, scale, model.config.eps)).float()
    return _unpatchify(patches, latents.shape)


def sight_of(layouts: Sequence[ShotLayout], head_dim: int) -> Sight:
    """Sparse attention for clips of equal size, each cut in its own way."""
    positions = Positions.of(layouts[0], head_dim, torch.device("cpu"))
    cos, sin = positions.rotations(slice(0, layouts[0].tokens))
    return Sight(torch.stack([_self_bias(layout) for layout in layouts])[:, None], cos, sin)


def _self_bias(layout: ShotLayout) -> Tensor:
    shot = torch.tensor(layout.shot_of_latent_frame)
    first = torch.zeros(layout.latent_frames, dtype=torch.bool)
    first[list(layout.starts)] = True
    same = shot[:, None] == shot[None]
    bias = torch.where(same | first[None], 0.0, NEVER) + torch.where(same & first[None], math.log(2), 0.0)
    each = layout.frame_tokens
    return bias.repeat_interleave(each, 0).repeat_interleave(each, 1)


def text_sight(prompt: Prompt, shots: int) -> Tensor:
    """What each shot sees of its prompt: for every token and, last, for the padding. → (shots, ids + 1)."""
    seen = torch.zeros(shots, TEXT_ROWS)
    for shot in range(shots):
        seen[shot, list(prompt.windows.rows(shot)) if prompt.windows else slice(None)] = 1
    count = len(prompt.ids)
    return torch.cat([seen[:, :count], seen[:, count:].sum(1, keepdim=True)], 1).log()


def text_bias(sight: Tensor, layout: ShotLayout, length: int) -> Tensor:
    """The same for each token of a clip, with room for longer prompts before the padding. → (tokens, length)."""
    room = sight.new_full((len(sight), length - sight.shape[1]), NEVER)
    wide = torch.cat([sight[:, :-1], room, sight[:, -1:]], 1)
    return wide[list(layout.shot_of_latent_frame)].repeat_interleave(layout.frame_tokens, 0)


def _block(block: Block, x: Tensor, rows: Tensor, modulation: Tensor, bias: Tensor, sight: Sight) -> Tensor:
    shift1, scale1, gate1, shift2, scale2, gate2 = (block.modulation + modulation).unbind(1)
    h = _modulate(x, shift1, scale1, block.eps)
    x = x + gate1[:, None] * _attend(block.self_attn, h, h, sight.bias, (sight.cos, sight.sin))
    h = F.layer_norm(x, x.shape[-1:], block.norm3.weight, block.norm3.bias, block.eps)
    x = x + _attend(block.cross_attn, h, rows, bias, None)
    inner = F.gelu(block.ffn[0](_modulate(x, shift2, scale2, block.eps)), approximate="tanh")
    return x + gate2[:, None] * block.ffn[2](inner)  # type: ignore[no-any-return]


def _attend(
    layer: AttentionLayer, x: Tensor, rows: Tensor, bias: Tensor, turns: tuple[Tensor, Tensor] | None
) -> Tensor:
    q = _split(_rms(layer.q(x), layer.norm_q.weight, layer.eps), layer.heads)
    k = _split(_rms(layer.k(rows), layer.norm_k.weight, layer.eps), layer.heads)
    v = _split(layer.v(rows), layer.heads)
    if turns:
        q, k = _turn(q, *turns), _turn(k, *turns)
    q, k, v = (part.transpose(1, 2) for part in (q, k.to(v.dtype), v))
    q = q.to(v.dtype)
    if turns:
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(v.dtype))
    else:  # few keys: plain matrices are several times faster on a CPU
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        seen = torch.softmax(scores + bias.to(v.dtype), -1) @ v
    return layer.o(seen.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def _modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=eps) * (1 + scale[:, None]) + shift[:, None]


def _rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * (x.float().square().mean(-1, keepdim=True) + eps).rsqrt() * weight


def _split(x: Tensor, heads: int) -> Tensor:
    return x.view(*x.shape[:-1], heads, -1)


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    even, odd = x.view(*x.shape[:-1], -1, 2).unbind(-1)
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).flatten(-2)


def _unpatchify(patches: Tensor, shape: Sequence[int]) -> Tensor:
    b, channels, frames, height, width = shape
    grid = patches.view(b, frames, height // PATCH, width // PATCH, PATCH, PATCH, channels)
    return grid.permute(0, 6, 1, 2, 4, 3, 5).reshape(b, channels, frames, height, width)


def begin(model: WanDiT) -> None:
    """Fresh weights: matrices by their fan-in, every branch's last one zero, gates open."""
    for name, weight in model.named_parameters():
        if name.endswith("modulation"):
            nn.init.zeros_(weight)
            if weight.shape[1] == 6:
                weight.data[:, [2, 5]] = 1
        elif "norm" in name and name.endswith("weight"):
            nn.init.ones_(weight)
        elif name.endswith(("bias", "o.weight", "ffn.2.weight", "head.head.weight")):
            nn.init.zeros_(weight)
        elif "time_projection" in name:
            nn.init.normal_(weight, std=0.02)
        else:
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
