"""A block through which each shot goes as a whole: self-attention, cross-attention and feed-forward, then the next.

`holo_lite.model.carrying` says when, and why. Where self-attention's input of the shot is held comes that of
cross-attention as soon as queries have been made, and there that of the feed-forward in turn. What is computed is
the same as layer by layer: of another shot only the first frame's keys and values are needed, and those are made
before any token changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from holo_lite.model.clip import Clip, even_portions, portions
from holo_lite.model.compute import Compute
from holo_lite.model.held_inputs import HeldInputs
from holo_lite.model.key_values import KeyValues
from holo_lite.model.layer_weights import AttentionLayer, AttentionWeights, FeedForward, Next
from holo_lite.model.layers import Modulation, SelfAttentionVisit, TextRows
from holo_lite.model.linear import Affine
from holo_lite.model.operations import LinearInput, Norm
from holo_lite.model.positions import Positions


@dataclass(frozen=True)
class Layers:
    """A block's parameters, and what the timestep does to two of its layers."""

    self_attention: AttentionLayer
    attending: Modulation
    cross_attention: AttentionLayer
    norm: nn.LayerNorm
    feed_forward: FeedForward
    feeding: Modulation


@dataclass(frozen=True)
class OtherLayers:
    """What is behind self-attention: weights for one visit, and the norm with which each layer begins."""

    telling: AttentionWeights
    norm: Norm
    up: Affine
    down: Affine
    fed_norm: Norm
    gate: Tensor
    held: HeldInputs
    clip: Clip


@dataclass(frozen=True)
class StreamOnward:
    """The way of one stream through them, with its text's keys and values. See `layers.Onward`."""

    layers: OtherLayers
    text: TextRows
    seen: tuple[Tensor, Tensor]

    def first(self, tokens: slice) -> Next:
        """Cross-attention's input, in place of self-attention's."""
        return self.layers.norm, self.layers.held.place(tokens)

    def run_(self, x: Tensor, shot: int, span: range) -> None:
        """x += CrossAttn(…), then x += gate · FFN(…), of a shot's rows."""
        tell_(self, x, shot, span)
        feed_(self.layers, x, span)


def whole_block_(
    streams: Sequence[Tensor],
    texts: Sequence[TextRows],
    layers: Layers,
    clip: Clip,
    positions: Positions,
    compute: Compute,
) -> None:
    """Change each stream (rows, d) in place by all three layers, shot by shot."""
    like, heads = streams[0], layers.self_attention.heads
    # Before the weights: these are the largest tensors, and no small one may take a piece of their last place.
    buffer = KeyValues(clip.key_rows, heads, like.shape[1] // heads, like)
    own, others = layers.self_attention.unpacked(compute), _others(layers, clip, compute, like)
    visit = SelfAttentionVisit(own, layers.attending, clip, positions, others.held)
    for x, text in zip(streams, texts, strict=True):
        visit.run_(x, buffer, read_(others, text))


def _others(layers: Layers, clip: Clip, compute: Compute, like: Tensor) -> OtherLayers:
    affine, modulation = layers.norm, layers.feeding
    telling, (up, down) = layers.cross_attention.unpacked(compute), layers.feed_forward.unpacked(compute)
    return OtherLayers(
        telling=telling,
        norm=Norm(affine.weight, affine.bias, affine.eps, one=0.0),
        up=up,
        down=down,
        fed_norm=Norm(modulation.scale, modulation.shift, layers.self_attention.eps, one=1.0),
        gate=modulation.gate,
        held=HeldInputs(clip.longest_here, telling.q.form, like),
        clip=clip,
    )


def read_(layers: OtherLayers, text: TextRows) -> StreamOnward:
    """Make a text's keys and values, for a stream's way."""
    return StreamOnward(layers, text, layers.telling.text_keys_values(text.rows))


def tell_(stream: StreamOnward, x: Tensor, shot: int, span: range) -> None:
    """Cross-attention of a shot, in portions: self-attention's keys and values are still there."""
    layers, (keys, values) = stream.layers, stream.seen
    telling, clip, held = layers.telling, layers.clip, layers.held
    for part, window, bias in stream.text.seen_in(shot, span, clip):
        seen = (keys, values) if window is None else (keys[window], values[window])
        for tokens in even_portions(part, clip.text_queries_beside):
            rows, following = x[clip.rows(tokens)], (layers.fed_norm, held.place(tokens))
            telling.add_attended_(rows, _heard(telling, held.input(tokens), seen, bias), following=following)
        del seen


def _heard(
    telling: AttentionWeights, prepared: LinearInput, seen: tuple[Tensor, Tensor], bias: Tensor | None
) -> Tensor:
    """What queries of an input find in a text. → (n, H, D); the queries themselves go."""
    q = telling.queries(prepared)
    return telling.heard(q, seen, bias)


def feed_(layers: OtherLayers, x: Tensor, span: range) -> None:
    """The feed-forward of a shot, in chunks."""
    clip = layers.clip
    for tokens in portions(span, clip.chunks.feed_forward):
        inner = layers.up.gelu(layers.held.input(tokens), layers.down.form)
        layers.down.add_(x[clip.rows(tokens)], inner, layers.gate)
        del inner
