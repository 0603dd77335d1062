"""How a forward computes, as against what: which attention kernel, which number format, which fused operations.

The code that opens a model chooses; the layers use what they are given. With nothing chosen everything is PyTorch's
own and computes as the equations say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from holo_lite.eightbit.limits import LinearMode
from holo_lite.model import equations
from holo_lite.model.clip import Clip
from holo_lite.model.key_values import KeyValues
from holo_lite.model.operations import Ops

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Arrival = Callable[[], None]  # waits until what others send is there; a second call finds it there


class Exchange(Protocol):
    """Where a clip's ranks meet, in self-attention. Each writes what it computes; the others' is filled in.

    Every rank of a clip calls `shared` equally often and in the same order, and of a divided shot all who compute
    some of it call `divided`. Both only begin: until what they return has been called, others' rows may be missing,
    and those written here must stay.
    """

    def shared(self, buffer: KeyValues, clip: Clip) -> Arrival:
        """The buffer's shared rows: those at the clip's `shared_here` are written."""

    def divided(self, buffer: KeyValues, clip: Clip, shot: int, first: int) -> Arrival:
        """The keys and values of a shot's own span, from row `first` on: those computed here are written."""


def here() -> None:
    """Nothing is on its way: an `Arrival`."""


class OneRank:
    """Nothing is missing where every token is computed."""

    def shared(self, _buffer: KeyValues, clip: Clip) -> Arrival:
        """All is written."""
        assert clip.share is None, "other shots' keys are missing, and there is no rank to ask"
        return here

    def divided(self, _buffer: KeyValues, _clip: Clip, _shot: int, _first: int) -> Arrival:
        """No shot is."""
        raise AssertionError("a shot is divided, and there is no rank to ask")


@dataclass(frozen=True)
class Compute:
    """attention: of q (n, H, D), k and v (m, H, D); linear: the format in which matrices are multiplied.

    `exchange` is where the ranks of a clip meet.
    """

    attention: Attend = equations.attention
    linear: LinearMode = "plain"
    ops: Ops = field(default_factory=Ops)
    exchange: Exchange = field(default_factory=OneRank)


PLAIN = Compute()
