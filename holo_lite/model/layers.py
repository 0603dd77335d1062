"""The three layers of a block, run shot by shot, in place on the residual stream.

Only self-attention needs an order. The keys and values of all shots' first frames are computed first,
because the stream changes as soon as the first shot is done; then each shot writes its own behind them,
and its queries pass in chunks. Cross-attention needs a shot's allowed text rows, gathered; the
feed-forward needs nothing but the token itself. No masks anywhere: what must not be seen is not there.

A stream has a row for every token that is computed here. Where that is not all of them, because other ranks compute
other shots, the first frames' keys and values are all that the ranks need of each other, and those of a shot that
is divided among them. `Compute.exchange` is called where they are written and not yet read. While they travel, a
rank computes what needs none of them: its own keys and values, and its first queries.

Each layer unpacks its weights on entry and frees them on return, so that of a compressed model at
most one layer of one block is in memory in full.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from torch import Tensor, nn

from holo_lite.model.clip import Clip, portions
from holo_lite.model.compute import Arrival, Compute, here
from holo_lite.model.held_inputs import HeldInputs
from holo_lite.model.key_values import KeyValues
from holo_lite.model.layer_weights import AttentionLayer, AttentionWeights, FeedForward, Next
from holo_lite.model.operations import LinearInput
from holo_lite.model.positions import Positions
from holo_lite.model.relay import RelayRows

Seen = list[tuple[range, Tensor | None, Tensor | None]]  # tokens, the text's rows they see, what is added to logits


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
        shared = self.compute.exchange.shared(buffer, self.clip)
        for shot, span in self.clip.visits:
            self._hold(x, span)
            own = self._append_own(x, shot, buffer)
            self._attend_(x, span, buffer, partial(self._complete, shot, buffer, (shared, own)), onward)
            if onward is not None:
                onward.run_(x, shot, span)

    def _append_own(self, x: Tensor, shot: int, buffer: KeyValues) -> Arrival:
        """Keys and values that only this shot sees: computed here, or by all who have some of the shot.

        They go to their place, with room before them for the shared rows that come again.
        """
        own = self.clip.own_span(shot)
        first = self.clip.shared_tokens + len(self.clip.repeated_rows(shot))
        buffer.go_to(first)
        if not self.clip.is_divided(shot):
            self._append_keys(x, own, buffer)
            return here
        piece = self.clip.piece(own)
        buffer.go_to(first + piece.start - own.start)
        self._append_keys(x, piece, buffer)
        buffer.go_to(first + len(own))
        return self.compute.exchange.divided(buffer, self.clip, shot, first)

    def _complete(self, shot: int, buffer: KeyValues, arrivals: Iterable[Arrival]) -> None:
        """Wait for what others send, and write the shared rows that come again."""
        for arrival in arrivals:
            arrival()
        end = buffer.filled
        buffer.go_to(self.clip.shared_tokens)
        buffer.repeat(self.clip.repeated_rows(shot))
        buffer.go_to(end)

    def _append_keys(self, x: Tensor, span: range, buffer: KeyValues) -> None:
        for tokens in portions(span, self.clip.chunks.attention):
            h = self._input(x, tokens)
            keys, values = buffer.extend(tokens.stop - tokens.start)
            self.weights.keys(h, (self.positions, tokens), keys)
            self.weights.values(h, values)
            del h  # a loop's variable outlives its iteration, and would stay in memory with the next chunk

    def _attend_(
        self, x: Tensor, span: range, buffer: KeyValues, complete: Arrival = here, onward: Onward | None = None
    ) -> None:
        """Let the tokens attend to the buffer, which `complete` completes: the first queries are made before."""
        for tokens in portions(span, self.clip.chunks.attention):
            rows, following = x[self.clip.rows(tokens)], None if onward is None else onward.first(tokens)
            self.weights.add_attended_(rows, self._attended(x, tokens, buffer, complete), self.mod.gate, following)
            complete = here

    def _attended(self, x: Tensor, tokens: slice, buffer: KeyValues, complete: Arrival) -> Tensor:
        """What queries of these tokens find. → (n, H, D); the queries themselves go."""
        q = self.weights.queries(self._input(x, tokens), (self.positions, tokens))
        complete()
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
    keys, values = weights.text_keys_values(text.rows)
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
