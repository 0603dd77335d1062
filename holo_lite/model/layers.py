"""The three layers of a block, run shot by shot, in place on the residual stream.

Only self-attention needs an order. The keys and values of all shots' first frames are computed first,
because the stream changes as soon as the first shot is done; then each shot writes its own behind them,
and its queries pass in chunks. Cross-attention needs a shot's allowed text rows, gathered; the
feed-forward needs nothing but the token itself. No masks anywhere: what must not be seen is not there.

A stream has a row for every token that is computed here. Where that is not all of them, because other ranks own
other shots, the first frames' keys and values are all that the ranks need of each other, and `Compute.exchange` is
called where they are written and not yet read.

Each layer unpacks its weights on entry and frees them on return, so that of a compressed model at
most one layer of one block is in memory in full.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from holo_lite.model.clip import Clip, portions
from holo_lite.model.compute import Compute
from holo_lite.model.equations import gelu_, layer_norm
from holo_lite.model.key_values import KeyValues
from holo_lite.model.linear import Affine, Linear, LinearInput
from holo_lite.model.positions import Positions

Rotation = tuple[Tensor, Tensor]  # cosines and sines, each (n, 1, D/2)


@dataclass(frozen=True)
class Modulation:
    """What the timestep does to a layer: its input's shift and scale, its output's gate. Each (d,)."""

    shift: Tensor
    scale: Tensor
    gate: Tensor


@dataclass(frozen=True)
class TextRows:
    """A prompt as the blocks see it: embedded rows (512, d), and per shot the rows it may see.

    `windows` is None for a prompt without windows: then every token sees every row.
    """

    rows: Tensor
    windows: tuple[Tensor, ...] | None = None

    def seen_by_shots(self, clip: Clip) -> Iterable[tuple[range, Tensor | None]]:
        """Spans of tokens with the row numbers they see (None: all)."""
        if self.windows is None:
            return [(run, None) for run in clip.runs]
        return [(span, self.windows[shot]) for shot, span in clip.query_spans]


@dataclass(frozen=True)
class AttentionWeights:
    """An attention layer's weights, unpacked for one visit. `prepare` serves q, k and v, which take one input."""

    q: Affine
    k: Affine
    v: Affine
    o: Affine
    norm_q: Tensor
    norm_k: Tensor
    heads: int
    eps: float
    compute: Compute

    def prepare(self, x: Tensor) -> LinearInput:
        """(n, d) as queries, keys and values are made of it."""
        return self.q.prepare(x)

    def queries(self, prepared: LinearInput, turn: Rotation | None = None) -> Tensor:
        """(n, d) → (n, H, D), normed, and turned where angles are given."""
        return self._normed(self.q.apply(prepared), self.norm_q, turn)

    def keys(self, prepared: LinearInput, turn: Rotation | None = None) -> Tensor:
        """(n, d) → (n, H, D), normed, and turned where angles are given."""
        return self._normed(self.k.apply(prepared), self.norm_k, turn)

    def values(self, prepared: LinearInput) -> Tensor:
        """(n, d) → (n, H, D)."""
        return self._split(self.v.apply(prepared))

    def _normed(self, x: Tensor, weight: Tensor, turn: Rotation | None) -> Tensor:
        if turn is None:
            return self._split(self.compute.ops.norm(x, weight, self.eps))
        return self.compute.ops.norm_turn(x, weight, self.eps, *turn, self.heads)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(len(x), self.heads, -1)


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
        q, k, v, o = (linear.unpacked(mode=compute.linear) for linear in (self.q, self.k, self.v, self.o))
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
        return up.unpacked(mode=compute.linear), down.unpacked(mode=compute.linear)


@dataclass(frozen=True)
class SelfAttentionVisit:
    """Self-attention of one block, with all that stays the same while the streams pass."""

    weights: AttentionWeights
    mod: Modulation
    clip: Clip
    positions: Positions

    def run_(self, x: Tensor, buffer: KeyValues) -> None:
        """Change a stream (rows, d) in place, shot by shot."""
        for row, span in self.clip.shared_here:
            buffer.go_to(row)
            self._append_keys(x, span, buffer)
        buffer.go_to(self.clip.shared_tokens)
        self.compute.exchange(buffer, self.clip)
        for shot, span in self.clip.query_spans:
            buffer.go_to(self.clip.shared_tokens)
            buffer.repeat(self.clip.repeated_rows(shot))
            self._append_keys(x, self.clip.own_span(shot), buffer)
            self._attend_(x, span, buffer)

    def _append_keys(self, x: Tensor, span: range, buffer: KeyValues) -> None:
        for tokens in portions(span, self.clip.chunks.attention):
            h = self.weights.prepare(self._input(x, tokens))
            buffer.append(self.weights.keys(h, self._turn(tokens)), self.weights.values(h))
            del h  # a loop's variable outlives its iteration, and would stay in memory with the next chunk

    def _attend_(self, x: Tensor, span: range, buffer: KeyValues) -> None:
        for tokens in portions(span, self.clip.chunks.attention):
            q = self.weights.queries(self.weights.prepare(self._input(x, tokens)), self._turn(tokens))
            attended = self.weights.o.prepare(self.compute.attention(q, *buffer.seen).flatten(1))
            update = self.weights.o.apply(attended)
            self.compute.ops.gated_add_(x[self.clip.rows(tokens)], self.mod.gate, update)
            del q, attended, update

    @property
    def compute(self) -> Compute:
        """How it is computed."""
        return self.weights.compute

    def _turn(self, tokens: slice) -> Rotation:
        return self.positions.rotations(tokens)

    def _input(self, x: Tensor, tokens: slice) -> Tensor:
        return self.compute.ops.modulate(
            x[self.clip.rows(tokens)], self.mod.shift, self.mod.scale, self.weights.eps
        )


def self_attention_(
    streams: Sequence[Tensor],
    layer: AttentionLayer,
    mod: Modulation,
    clip: Clip,
    positions: Positions,
    compute: Compute,
) -> None:
    """x += gate · SelfAttn(LN(x)·(1+scale)+shift), for each stream (rows, d)."""
    visit = SelfAttentionVisit(layer.unpacked(compute), mod, clip, positions)
    head_dim = streams[0].shape[1] // layer.heads
    buffer = KeyValues(clip.key_rows, layer.heads, head_dim, like=streams[0])
    for x in streams:
        visit.run_(x, buffer)


def cross_attention_(
    streams: Sequence[Tensor],
    texts: Sequence[TextRows],
    layer: AttentionLayer,
    norm: nn.LayerNorm,
    clip: Clip,
    compute: Compute,
) -> None:
    """x += CrossAttn(LN_affine(x), text), each shot seeing the rows of its own window."""
    weights = layer.unpacked(compute)
    for x, text in zip(streams, texts, strict=True):
        _attend_text_(x, text, weights, norm, clip)


def _attend_text_(x: Tensor, text: TextRows, weights: AttentionWeights, norm: nn.LayerNorm, clip: Clip) -> None:
    given = weights.prepare(text.rows)
    keys, values = weights.keys(given), weights.values(given)
    del given
    for span, window in text.seen_by_shots(clip):
        seen = (keys, values) if window is None else (keys[window], values[window])
        for tokens in clip.text_portions(span):
            rows = clip.rows(tokens)
            q = weights.queries(weights.prepare(layer_norm(x[rows], norm.eps, norm.weight, norm.bias)))
            x[rows].add_(weights.o.apply(weights.o.prepare(weights.compute.attention(q, *seen).flatten(1))))
            del q
        del seen


def feed_forward_(
    streams: Sequence[Tensor], layer: FeedForward, mod: Modulation, eps: float, clip: Clip, compute: Compute
) -> None:
    """x += gate · FFN(LN(x)·(1+scale)+shift), in chunks of rows."""
    up, down = layer.unpacked(compute)
    for x in streams:
        for rows in portions(range(clip.stream_rows), clip.chunks.feed_forward):
            inner = gelu_(up.apply(up.prepare(compute.ops.modulate(x[rows], mod.shift, mod.scale, eps))))
            prepared = down.prepare(inner)
            del inner
            compute.ops.gated_add_(x[rows], mod.gate, down.apply(prepared))
            del prepared
