"""Refuses NaN and Inf: one such number spoils its block's scale, and with it every other number of the block."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from holo_lite.errors import CheckpointError


def check_finite(tensor: Tensor, what: str) -> None:
    """Raise `CheckpointError` saying `what` holds NaN or Inf, if it does. Any float dtype of 16 bits or more.

    The extremes are found in one pass without a copy, and NaN is contagious to both.
    """
    if not tensor.numel():
        return
    least, most = torch.aminmax(tensor)
    if not (math.isfinite(float(least)) and math.isfinite(float(most))):
        raise CheckpointError(f"{what} holds NaN or Inf; download the file again, or take another")
