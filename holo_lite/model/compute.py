"""How a forward computes, as against what: which attention kernel, which number format, which fused operations.

The code that opens a model chooses; the layers use what they are given. With nothing chosen everything is PyTorch's
own and computes as the equations say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from holo_lite.eightbit.limits import LinearMode
from holo_lite.model import equations
from holo_lite.model.clip import Clip
from holo_lite.model.key_values import KeyValues
from holo_lite.model.operations import Ops

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Exchange = Callable[[KeyValues, Clip], None]


def one_rank(_buffer: KeyValues, clip: Clip) -> None:
    """Nothing is missing where every shot is computed."""
    assert len(clip.shots) == clip.layout.shots, "other shots' keys are missing, and there is no rank to ask"


@dataclass(frozen=True)
class Compute:
    """attention: of q (n, H, D), k and v (m, H, D); linear: the format in which matrices are multiplied.

    `exchange` is where the ranks of a clip meet, once a self-attention and stream. The buffer's rows are then the
    shared ones; those at the clip's `shared_here` are written, and it fills in those that other ranks have written.
    Every rank calls it equally often and in the same order, also one that owns no shot.
    """

    attention: Attend = equations.attention
    linear: LinearMode = "plain"
    ops: Ops = field(default_factory=Ops)
    exchange: Exchange = one_rank


PLAIN = Compute()
