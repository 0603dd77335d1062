"""How like two clips are that should be the same: a model's and its baseline's, from the same noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_DB = 100.0  # what identical clips are given, whose PSNR has no number
WINDOW, SIGMA = 11, 1.5  # pixels, as in the paper that proposed SSIM
C1, C2 = 0.01**2, 0.03**2  # for values 0 to 1


@dataclass(frozen=True)
class Likeness:
    """psnr: dB; ssim: 1 is identical; latents: relative error of the final latents."""

    psnr: float
    ssim: float
    latents: float


def likeness(frames: Tensor, others: Tensor, latents: Tensor, other_latents: Tensor) -> Likeness:
    """Of two clips: frames (n, H, W, 3) uint8, latents (16, F, h, w)."""
    return Likeness(psnr(frames, others), ssim(frames, others), relative_error(latents, other_latents))


def psnr(frames: Tensor, others: Tensor) -> float:
    """Peak signal to noise ratio over all pixels of two clips (n, H, W, 3) uint8, in dB."""
    error = (_levels(frames) - _levels(others)).square().mean().item()
    return min(MOST_DB, -10 * math.log10(error)) if error else MOST_DB


def ssim(frames: Tensor, others: Tensor) -> float:
    """Structural similarity, the mean over frames, channels and all places where the window fits whole."""
    x, y = _levels(frames), _levels(others)
    mean_x, mean_y = _windowed(x), _windowed(y)
    var_x, var_y = _windowed(x * x) - mean_x**2, _windowed(y * y) - mean_y**2
    cov = _windowed(x * y) - mean_x * mean_y
    light = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    structure = (2 * cov + C2) / (var_x + var_y + C2)
    return float((light * structure).mean())


def relative_error(latents: Tensor, expected: Tensor) -> float:
    """|x − y| / |y|."""
    return float((latents - expected).norm() / expected.norm())


def _levels(frames: Tensor) -> Tensor:
    """(n, H, W, 3) uint8 → (3n, 1, H, W), 0 to 1."""
    return frames.permute(0, 3, 1, 2).flatten(0, 1)[:, None].float() / 255


def _windowed(x: Tensor) -> Tensor:
    """Gaussian means: (m, 1, H, W) → (m, 1, H - 10, W - 10)."""
    places = torch.arange(WINDOW, dtype=x.dtype) - WINDOW // 2
    weights = torch.exp(-(places**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()
    return F.conv2d(F.conv2d(x, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
