"""The parameters of a block's layers, and the same made ready for one visit, in which streams pass through them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from holo_lite.model.compute import Compute
from holo_lite.model.equations import biased_attention
from holo_lite.model.linear import Affine, CodedAffine, Linear
from holo_lite.model.operations import LinearInput, Norm, Ops
from holo_lite.model.positions import Positions

Turn = tuple[Positions, slice]  # by the positions of these tokens
Next = tuple[Norm, LinearInput]  # with what the next layer begins, and where it finds that


@dataclass(frozen=True)
class AttentionWeights:
    """An attention layer's weights, unpacked for one visit. q, k and v take one input, in one form."""

    q: Affine
    k: Affine
    v: Affine
    o: Affine
    norm_q: Tensor
    norm_k: Tensor
    heads: int
    eps: float
    compute: Compute

    @property
    def ops(self) -> Ops:
        """The operations between its products."""
        return self.compute.ops

    def queries(self, prepared: LinearInput, turn: Turn | None = None) -> Tensor:
        """(n, d) → (n, H, D), normed, and turned where positions are given. What is prepared goes before that."""
        made = self.q.apply(prepared)
        del prepared
        return self._split(self._normed_(made, self.norm_q, turn))

    def keys(self, prepared: LinearInput, turn: Turn | None = None, out: Tensor | None = None) -> Tensor:
        """(n, d) → (n, H, D), normed, and turned where positions are given; in `out`, where that is given."""
        made = self.k.apply(prepared, _flat(out))
        return self._split(self._normed_(made, self.norm_k, turn))

    def values(self, prepared: LinearInput, out: Tensor | None = None) -> Tensor:
        """(n, d) → (n, H, D), in `out`, where that is given."""
        return self._split(self.v.apply(prepared, _flat(out)))

    def text_keys_values(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a text's rows (rows, d). → (rows, H, D), twice."""
        given = self.k.prepare(rows)
        return self.keys(given), self.values(given)

    def heard(self, q: Tensor, seen: tuple[Tensor, Tensor], bias: Tensor | None) -> Tensor:
        """What queries (n, H, D) find in keys and values of a text. → (n, H, D)."""
        return self.compute.attention(q, *seen) if bias is None else biased_attention(q, *seen, bias)

    def add_attended_(
        self, x: Tensor, attended: Tensor, gate: Tensor | None = None, following: Next | None = None
    ) -> None:
        """x += gate · (what was attended, projected), or without a gate. x: (n, d); attended: (n, H, D).

        following: what is made of the sum at once. That is of products in 8 bits alone.
        """
        prepared = self.o.prepare(attended.flatten(1))
        del attended
        if following is None:
            self.o.add_(x, prepared, gate)
            return
        assert isinstance(self.o, CodedAffine), "the sum is normed in 8 bits only"
        self.o.add_normed_(x, prepared, gate, *following)

    def _normed_(self, x: Tensor, weight: Tensor, turn: Turn | None) -> Tensor:
        if turn is None:
            return self.ops.norm_(x, weight, self.eps)
        return self.ops.norm_turn_(x, weight, self.eps, *turn)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(len(x), self.heads, -1)


def _flat(out: Tensor | None) -> Tensor | None:
    """(n, H, D) as (n, d), in the same memory."""
    return None if out is None else out.view(len(out), -1)


class RMSScale(nn.Module):
    """The weight of an RMSNorm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))


class AttentionLayer(nn.Module):
    """Parameters of self- or cross-attention."""

    def __init__(self, dim: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads, self.eps = heads, eps
        self.q, self.k, self.v, self.o = (Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = RMSScale(dim), RMSScale(dim)

    def unpacked(self, compute: Compute) -> AttentionWeights:
        """Make the weights ready for one visit."""
        q, k, v, o = (_unpacked(linear, compute) for linear in (self.q, self.k, self.v, self.o))
        return AttentionWeights(
            q=q,
            k=k,
            v=v,
            o=o,
            norm_q=self.norm_q.weight,
            norm_k=self.norm_k.weight,
            heads=self.heads,
            eps=self.eps,
            compute=compute,
        )


class FeedForward(nn.Sequential):
    """Parameters of the feed-forward: up, GELU, down."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__(Linear(dim, inner), nn.Identity(), Linear(inner, dim))

    def unpacked(self, compute: Compute) -> tuple[Affine, Affine]:
        """Make both weights ready for one visit."""
        up, _, down = self
        assert isinstance(up, Linear)
        assert isinstance(down, Linear)
        return _unpacked(up, compute), _unpacked(down, compute)


def _unpacked(linear: Linear, compute: Compute) -> Affine:
    return linear.unpacked(mode=compute.linear, ops=compute.ops)
