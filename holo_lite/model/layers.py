"""The three layers of a block, run shot by shot, in place on the residual stream.

Only self-attention needs an order. The keys and values of all shots' first frames are computed first,
because the stream changes as soon as the first shot is done; then each shot writes its own behind them,
and its queries pass in chunks. Cross-attention needs a shot's allowed text rows, gathered; the
feed-forward needs nothing but the token itself. No masks anywhere: what must not be seen is not there.

A stream has a row for every token that is computed here. Where that is not all of them, because other ranks compute
other shots, the first frames' keys and values are all that the ranks need of each other, and those of a shot that
is divided among them. `Compute.exchange` is called where they are written and not yet read.

Each layer unpacks its weights on entry and frees them on return, so that of a compressed model at
most one layer of one block is in memory in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from holo_lite.model.clip import Clip, portions
from holo_lite.model.compute import Compute
from holo_lite.model.equations import biased_attention
from holo_lite.model.held_inputs import HeldInputs
from holo_lite.model.key_values import KeyValues
from holo_lite.model.linear import Affine, CodedAffine, Linear
from holo_lite.model.operations import LinearInput, Norm, Ops
from holo_lite.model.positions import Positions
from holo_lite.model.relay import RelayRows

Turn = tuple[Positions, slice]  # by the positions of these tokens
Seen = list[tuple[range, Tensor | None, Tensor | None]]  # tokens, the text's rows they see, what is added to logits
Next = tuple[Norm, LinearInput]  # with what the next layer begins, and where it finds that


@dataclass(frozen=True)
class Modulation:
    """What the timestep does to a layer: its input's shift and scale, its output's gate. Each (d,)."""

    shift: Tensor
    scale: Tensor
    gate: Tensor


@dataclass(frozen=True)
class TextRows:
    """A prompt as the blocks see it: embedded rows (512, d), and per shot the rows it may see.

    `windows` is None for a prompt without windows: then every token sees every row, some of them less by `relay`.
    """

    rows: Tensor
    windows: tuple[Tensor, ...] | None = None
    relay: RelayRows | None = None

    def seen_by_shots(self, clip: Clip) -> Seen:
        """Spans of tokens with the row numbers they see (None: all), and what is added to the rows' logits."""
        if self.relay is not None or self.windows is None:
            return self.seen_in(0, clip.here, clip)
        return [each for shot, span in clip.query_spans for each in self.seen_in(shot, span, clip)]

    def seen_in(self, shot: int, span: range, clip: Clip) -> Seen:
        """The same of a span within a shot."""
        if self.relay is not None:
            return [(part, None, bias) for part, bias in self.relay.tokens(clip.layout, span)]
        return [(span, None if self.windows is None else self.windows[shot], None)]


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

    def text_keys_values(self, text: TextRows) -> tuple[Tensor, Tensor]:
        """Keys and values of a text's rows. → (rows, H, D), twice."""
        given = self.k.prepare(text.rows)
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


class Onward(Protocol):
    """The layers behind self-attention, where a shot goes through all of them before the next one does."""

    def first(self, tokens: slice) -> Next:
        """With what they begin, of these tokens. What is there of self-attention's is of no use any more."""

    def run_(self, x: Tensor, shot: int, span: range) -> None:
        """Change a shot's rows of a stream in place. What they begin with has been made of all its tokens."""


@dataclass(frozen=True)
class SelfAttentionVisit:
    """Self-attention of one block, with all that stays the same while the streams pass.

    held: room for a shot's input, made once; without it that is made for keys and values, and again for queries.
    """

    weights: AttentionWeights
    mod: Modulation
    clip: Clip
    positions: Positions
    held: HeldInputs | None = None

    def run_(self, x: Tensor, buffer: KeyValues, onward: Onward | None = None) -> None:
        """Change a stream (rows, d) in place, shot by shot; `onward`: through the other layers, too."""
        self._hold(x, range(0))
        for row, span in self.clip.shared_here:
            buffer.go_to(row)
            self._append_keys(x, span, buffer)
        buffer.go_to(self.clip.shared_tokens)
        self.compute.exchange.shared(buffer, self.clip)
        for shot, span in self.clip.visits:
            buffer.go_to(self.clip.shared_tokens)
            buffer.repeat(self.clip.repeated_rows(shot))
            self._hold(x, span)
            self._append_own(x, shot, buffer)
            self._attend_(x, span, buffer, onward)
            if onward is not None:
                onward.run_(x, shot, span)

    def _append_own(self, x: Tensor, shot: int, buffer: KeyValues) -> None:
        """Keys and values that only this shot sees: computed here, or by all who have some of the shot."""
        own, first = self.clip.own_span(shot), buffer.filled
        if not self.clip.is_divided(shot):
            self._append_keys(x, own, buffer)
            return
        piece = self.clip.piece(own)
        buffer.go_to(first + piece.start - own.start)
        self._append_keys(x, piece, buffer)
        buffer.go_to(first + len(own))
        self.compute.exchange.divided(buffer, self.clip, shot, first)

    def _append_keys(self, x: Tensor, span: range, buffer: KeyValues) -> None:
        for tokens in portions(span, self.clip.chunks.attention):
            h = self._input(x, tokens)
            keys, values = buffer.extend(tokens.stop - tokens.start)
            self.weights.keys(h, (self.positions, tokens), keys)
            self.weights.values(h, values)
            del h  # a loop's variable outlives its iteration, and would stay in memory with the next chunk

    def _attend_(self, x: Tensor, span: range, buffer: KeyValues, onward: Onward | None = None) -> None:
        for tokens in portions(span, self.clip.chunks.attention):
            rows, following = x[self.clip.rows(tokens)], None if onward is None else onward.first(tokens)
            self.weights.add_attended_(rows, self._attended(x, tokens, buffer), self.mod.gate, following)

    def _attended(self, x: Tensor, tokens: slice, buffer: KeyValues) -> Tensor:
        """What queries of these tokens find. → (n, H, D); the queries themselves go."""
        q = self.weights.queries(self._input(x, tokens), (self.positions, tokens))
        return self.compute.attention(q, *buffer.seen)

    @property
    def compute(self) -> Compute:
        """How it is computed."""
        return self.weights.compute

    def _hold(self, x: Tensor, span: range) -> None:
        """Make the input of these tokens and hold it, where there is room; no other is held any more."""
        if self.held is None:
            return
        self.held.begin(span)
        for tokens in portions(span, self.clip.chunks.attention):
            self._made(x, tokens, self.held.place(tokens))

    def _input(self, x: Tensor, tokens: slice) -> LinearInput:
        if self.held is not None and self.held.has(tokens):
            return self.held.input(tokens)
        return self._made(x, tokens)

    def _made(self, x: Tensor, tokens: slice, *out: LinearInput) -> LinearInput:
        rows, form = x[self.clip.rows(tokens)], self.weights.q.form
        return self.weights.ops.modulate(rows, self.mod.shift, self.mod.scale, self.weights.eps, form, *out)


def self_attention_(
    streams: Sequence[Tensor],
    layer: AttentionLayer,
    mod: Modulation,
    clip: Clip,
    positions: Positions,
    compute: Compute,
) -> None:
    """x += gate · SelfAttn(LN(x)·(1+scale)+shift), for each stream (rows, d)."""
    head_dim = streams[0].shape[1] // layer.heads
    # Before the weights: these are the largest tensors, and no small one may take a piece of their last place.
    buffer = KeyValues(clip.key_rows, layer.heads, head_dim, like=streams[0])
    weights = layer.unpacked(compute)
    held = HeldInputs(clip.longest_here, weights.q.form, like=streams[0]) if clip.chunks.holding else None
    visit = SelfAttentionVisit(weights, mod, clip, positions, held)
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
    keys, values = weights.text_keys_values(text)
    for span, window, bias in text.seen_by_shots(clip):
        seen = (keys, values) if window is None else (keys[window], values[window])
        for tokens in clip.text_portions(span):
            rows = x[clip.rows(tokens)]
            weights.add_attended_(rows, _attended(rows, norm, weights, seen, bias))
        del seen


def _attended(
    x: Tensor, norm: nn.LayerNorm, weights: AttentionWeights, seen: tuple[Tensor, Tensor], bias: Tensor | None
) -> Tensor:
    """What queries of the rows (n, d) find in a text. → (n, H, D); the queries themselves go."""
    q = weights.queries(weights.ops.layer_norm(x, norm.weight, norm.bias, norm.eps, weights.q.form))
    return weights.heard(q, seen, bias)


def feed_forward_(
    streams: Sequence[Tensor], layer: FeedForward, mod: Modulation, eps: float, clip: Clip, compute: Compute
) -> None:
    """x += gate · FFN(LN(x)·(1+scale)+shift), in chunks of rows."""
    up, down = layer.unpacked(compute)
    for x in streams:
        for rows in portions(range(clip.stream_rows), clip.chunks.feed_forward):
            inner = up.gelu(compute.ops.modulate(x[rows], mod.shift, mod.scale, eps, up.form), down.form)
            down.add_(x[rows], inner, mod.gate)
            del inner
