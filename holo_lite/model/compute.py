"""How a forward computes, as against what: which attention kernel, which number format, which fused operations.

The code that opens a model chooses; the layers use what they are given. With nothing chosen everything is PyTorch's
own and computes as the equations say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

from torch import Tensor

from holo_lite.model import equations

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
LinearMode = Literal["plain", "fp8", "int8"]
LINEAR_MODES: tuple[LinearMode, ...] = get_args(LinearMode)


@dataclass(frozen=True)
class Ops:
    """The operations between matrix products, each with the meaning of its default.

    `norm` and `norm_turn` may use their first argument's memory; `gated_add_` changes it.
    """

    modulate: Callable[[Tensor, Tensor, Tensor, float], Tensor] = equations.modulate
    norm: Callable[[Tensor, Tensor, float], Tensor] = equations.rms_norm_
    norm_turn: Callable[[Tensor, Tensor, float, Tensor, Tensor, int], Tensor] = equations.norm_turn_
    gated_add_: Callable[[Tensor, Tensor, Tensor], Tensor] = equations.gated_add_


@dataclass(frozen=True)
class Compute:
    """attention: of q (n, H, D), k and v (m, H, D); linear: the format in which matrices are multiplied."""

    attention: Attend = equations.attention
    linear: LinearMode = "plain"
    ops: Ops = field(default_factory=Ops)


PLAIN = Compute()
