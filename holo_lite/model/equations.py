"""The equations of the Wan 2.2 transformer, one function each, and nothing else.

Notation: n tokens of width d, H heads of width D, d = H·D. A function whose name ends in an underscore
works in place on its first argument; the others leave their arguments alone. Nothing here knows of shots,
chunks or devices: who attends to whom is decided by the rows the caller passes in.

Source of all formulas: the Wan 2.2 T2V A14B architecture (RoPE: Su et al. 2021; adaptive LayerNorm: Peebles
and Xie 2022; RMSNorm: Zhang and Sennrich 2019).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sinusoid(timestep: Tensor, width: int) -> Tensor:
    """E = [cos, sin](t · 10000^(-i/h)), i < h = width/2. Scalar t → (width,), float64."""
    half = width // 2
    exponent = torch.arange(half, dtype=torch.float64, device=timestep.device) / half
    angle = timestep.to(torch.float64) * torch.pow(10000.0, -exponent)
    return torch.cat([angle.cos(), angle.sin()])


def modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """LN(x) · (1 + scale) + shift. x: (n, d); shift, scale: (d,)."""
    return layer_norm(x, eps).mul_(1 + scale).add_(shift)


def layer_norm(x: Tensor, eps: float, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """(x - mean) / sqrt(var + eps), times weight plus bias where given. x: (n, d)."""
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def rms_norm_(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) · weight, over all of d and not per head; the root in fp32. x: (n, d)."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return x.mul_(length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()).mul_(weight)


def rope_parts(head_dim: int) -> tuple[int, int, int]:
    """How a head of width D is cut into frame, row and column parts: D - 4⌊D/6⌋, 2⌊D/6⌋, 2⌊D/6⌋."""
    spatial = 2 * (head_dim // 6)
    return head_dim - 2 * spatial, spatial, spatial


def rope_angles(positions: int, part: int) -> Tensor:
    """Position · 10000^(-2i/part) for i < part/2. → (positions, part/2), float64."""
    frequency = torch.pow(10000.0, -torch.arange(0, part, 2, dtype=torch.float64) / part)
    return torch.outer(torch.arange(positions, dtype=torch.float64), frequency)


def rotate_(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x₂ᵢ, x₂ᵢ₊₁) by its angle. x: (n, H, D); cos, sin: (n, 1, D/2), fp32."""
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = (even * cos).addcmul_(odd, sin, value=-1)
    odd.copy_((odd * cos).addcmul_(even, sin))
    even.copy_(turned)
    return x


def norm_turn_(x: Tensor, weight: Tensor, eps: float, cos: Tensor, sin: Tensor, heads: int) -> Tensor:
    """RMSNorm over all of d, then RoPE on each head; may use x's memory. x: (n, d) → (n, H, D)."""
    return rotate_(rms_norm_(x, weight, eps).view(len(x), heads, -1), cos, sin)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / sqrt(D)) v without a mask. q: (n, H, D); k, v: (m, H, D) → (n, H, D)."""
    q, k, v = (rows.unsqueeze(0).transpose(1, 2) for rows in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).squeeze(0).transpose(0, 1)


def biased_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """softmax(q kᵀ / sqrt(D) + bias) v. q: (n, H, D); k, v: (m, H, D); bias: (m,), the same for every query."""
    q, k, v = (rows.unsqueeze(0).transpose(1, 2) for rows in (q, k, v))
    given = bias.to(q.dtype).view(1, 1, 1, -1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=given).squeeze(0).transpose(0, 1)


def relay_penalty(distance: Tensor, free: Tensor, spread: float) -> Tensor:
    """relu(|f - m| - w)² / 2s²: what a caption's logits lose |f - m| frames from its middle (arXiv 2604.10030)."""
    return F.relu(distance - free).square() / (2 * spread**2)


def gelu_(x: Tensor) -> Tensor:
    """x/2 · (1 + tanh(sqrt(2/π) · (x + 0.044715 x³)))."""
    return torch.ops.aten.gelu_(x, approximate="tanh")  # type: ignore[no-any-return]


def gated_add_(x: Tensor, gate: Tensor, update: Tensor) -> Tensor:
    """x += gate · update. x, update: (n, d); gate: (d,)."""
    return x.addcmul_(update, gate)


def euler(latents: Tensor, velocity: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """x + v · (σ_next - σ): one step along the flow."""
    return latents + velocity * (sigma_next - sigma)


def clean_estimate(latents: Tensor, velocity: Tensor, sigma: float) -> Tensor:
    """x - σ · v: where the flow would end if it went straight on from here."""
    return latents - sigma * velocity


def noised(clean: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """(1 - σ)·x₀ + σ·ε: clean latents at a noise level of the flow (rectified flow, Liu and others 2022)."""
    return (1 - sigma) * clean + sigma * noise


def guide(positive: Tensor, negative: Tensor, scale: float) -> Tensor:
    """v₋ + scale · (v₊ - v₋): classifier-free guidance (Ho and Salimans 2022)."""
    return negative + scale * (positive - negative)
