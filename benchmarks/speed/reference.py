"""The transformer as its published reference computes it: the whole sequence at once, every step out of place.

Written from the description of the sampling path, and from nothing else. Every tensor is as long as the clip. RoPE
multiplies complex numbers of 128 bits. In sparse attention each shot's keys and values, its own and those of all
shots' first frames behind them, are copied into one packed sequence. The text windows are a mask of all tokens by
all rows, and the text is embedded at every step. Guidance branches run one after the other.

It takes its weights from a `WanDiT` and computes what that computes; `tests/benchmarks/test_speed.py` holds it to
that.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.speed.scale import Inputs, Prompt
from holo_lite.model.compute import Attend
from holo_lite.model.dit import WanDiT
from holo_lite.model.layer_weights import AttentionLayer, RMSScale
from holo_lite.story.shots import ShotLayout


def step(model: WanDiT, inputs: Inputs, attend: Attend) -> list[Tensor]:
    """Velocity (16, F, h, w) of every guidance branch, one forward after the other."""
    return [forward(model, inputs, prompt, attend) for prompt in inputs.prompts]


def forward(model: WanDiT, inputs: Inputs, prompt: Prompt, attend: Attend) -> Tensor:
    """Velocity of one branch."""
    layout, dtype = inputs.clip.layout, model.dtype
    temb, mod = _time(model, inputs.timestep)
    text = model.text_embedding(prompt.rows.to(dtype))
    x = model.patch_embedding(inputs.latents[None].to(dtype))
    grid = x.shape[2:]
    x = x[0].flatten(1).transpose(0, 1).contiguous()
    turns = rotations(layout, model.config.head_dim, x.device)
    mask = text_mask(layout, prompt, len(text))
    for block in model.blocks:
        x = _block(block, x, text, mod, layout, turns, mask, attend)
    shift, scale = model.head.modulation[0] + temb
    head = model.head.head
    out = _linear(head, F.layer_norm(x, x.shape[-1:], eps=model.config.eps) * (1 + scale) + shift)
    out = out.view(*grid, 2, 2, model.config.out_dim).permute(5, 0, 1, 3, 2, 4)
    return out.reshape(inputs.latents.shape).to(inputs.latents.dtype)


def _time(model: WanDiT, timestep: Tensor) -> tuple[Tensor, Tensor]:
    """The head's (d,) and the blocks' (6, d) modulation."""
    half = model.config.freq_dim // 2
    powers = torch.pow(10000.0, -torch.arange(half, dtype=torch.float64, device=timestep.device) / half)
    angle = timestep.to(model.dtype).double() * powers
    temb = model.time_embedding(torch.cat([angle.cos(), angle.sin()]).to(model.dtype))
    return temb, model.time_projection(temb).view(6, -1)


def _block(
    block: Any,
    x: Tensor,
    text: Tensor,
    mod: Tensor,
    layout: ShotLayout,
    turns: Tensor,
    mask: Tensor | None,
    attend: Attend,
) -> Tensor:
    shift1, scale1, gate1, shift2, scale2, gate2 = block.modulation[0] + mod
    h = F.layer_norm(x, x.shape[-1:], eps=block.eps) * (1 + scale1) + shift1
    x = x + gate1 * _self_attention(block.self_attn, h, layout, turns, attend)
    h = F.layer_norm(x, x.shape[-1:], block.norm3.weight, block.norm3.bias, block.norm3.eps)
    x = x + _cross_attention(block.cross_attn, h, text, mask, attend)
    h = F.layer_norm(x, x.shape[-1:], eps=block.eps) * (1 + scale2) + shift2
    inner = F.gelu(_linear(block.ffn[0], h), approximate="tanh")
    return x + gate2 * _linear(block.ffn[2], inner)


def _self_attention(layer: AttentionLayer, h: Tensor, layout: ShotLayout, turns: Tensor, attend: Attend) -> Tensor:
    q = rotated(_rms(layer.norm_q, _linear(layer.q, h), layer), turns)
    k = rotated(_rms(layer.norm_k, _linear(layer.k, h), layer), turns)
    v = _linear(layer.v, h).unflatten(-1, (layer.heads, -1))
    keys, values, rows = packed(k, layout), packed(v, layout), 0
    found = []
    for shot in range(layout.shots):
        span = layout.token_span(shot)
        seen = slice(rows, rows + len(span) + layout.shots * layout.frame_tokens)
        found.append(attend(q[span.start : span.stop], keys[seen], values[seen]))
        rows = seen.stop
    return _linear(layer.o, torch.cat(found).flatten(1))


def _cross_attention(layer: AttentionLayer, h: Tensor, text: Tensor, mask: Tensor | None, attend: Attend) -> Tensor:
    q = _rms(layer.norm_q, _linear(layer.q, h), layer)
    k = _rms(layer.norm_k, _linear(layer.k, text), layer)
    v = _linear(layer.v, text).unflatten(-1, (layer.heads, -1))
    if mask is None:
        return _linear(layer.o, attend(q, k, v).flatten(1))
    q, k, v = (rows.transpose(0, 1)[None] for rows in (q, k, v))
    found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return _linear(layer.o, found[0].transpose(0, 1).flatten(1))


def packed(x: Tensor, layout: ShotLayout) -> Tensor:
    """Of each shot its own rows, then all shots' first frames; one shot behind the other. x: (tokens, H, D)."""
    spans = [layout.representative_span(shot) for shot in range(layout.shots)]
    firsts = torch.cat([x[span.start : span.stop] for span in spans])
    own = [layout.token_span(shot) for shot in range(layout.shots)]
    return torch.cat([rows for span in own for rows in (x[span.start : span.stop], firsts)])


def text_mask(layout: ShotLayout, prompt: Prompt, rows: int) -> Tensor | None:
    """Which rows of text each token sees: (1, 1, tokens, rows) of bool; None for a prompt without windows."""
    if prompt.windows is None:
        return None
    seen = torch.zeros(layout.shots, rows, dtype=torch.bool, device=prompt.rows.device)
    for shot, window in enumerate(prompt.windows):
        seen[shot, window] = True
    lengths = torch.tensor([len(layout.token_span(shot)) for shot in range(layout.shots)], device=seen.device)
    return seen.repeat_interleave(lengths, dim=0)[None, None]


def rotations(layout: ShotLayout, head_dim: int, device: torch.device) -> Tensor:
    """A unit complex number for each token and pair of channels: (tokens, 1, D/2) complex128."""
    spatial = 2 * (head_dim // 6)
    sizes = (layout.latent_frames, layout.rows, layout.columns)
    tables = []
    for axis, part in enumerate((head_dim - 2 * spatial, spatial, spatial)):
        powers = torch.pow(10000.0, -torch.arange(0, part, 2, dtype=torch.float64, device=device) / part)
        angles = torch.outer(torch.arange(sizes[axis], dtype=torch.float64, device=device), powers)
        shape = [1, 1, 1, part // 2]
        shape[axis] = sizes[axis]
        tables.append(torch.polar(torch.ones_like(angles), angles).view(shape).expand(*sizes, -1))
    return torch.cat(tables, dim=-1).reshape(layout.tokens, 1, -1)


def rotated(x: Tensor, turns: Tensor) -> Tensor:
    """RoPE on (tokens, H, D), as complex numbers of 128 bits."""
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2).to(x.dtype)


def _rms(norm: RMSScale, x: Tensor, layer: AttentionLayer) -> Tensor:
    """RMSNorm over all of d in fp32, then (n, H, D)."""
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + layer.eps)
    return (wide.to(x.dtype) * norm.weight).unflatten(-1, (layer.heads, -1))


def _linear(layer: Any, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)
