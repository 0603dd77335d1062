"""How much memory a forward needs in addition to the weights.

The formula follows the code in `layers` and `dit`, tensor by tensor. With width d, head width D, inner
width f, e bytes a number, and c tokens of a chunk in work:

    streams          tokens · d·e                  a guidance branch, through all layers
    text             512 · d·e                     a branch, through all layers
    self-attention   2·rows·d·e  +  max(c · (d·e + 4·d) + 4·a·D, 2·c·d·e)
    cross-attention  (2·512 + 2·window)·d·e  +  2·t·d·e
    feed-forward     c · (d + f)·e
    head             velocity (tokens · 64 · 4) a branch  +  c · (d + 64)·e

Tokens are those computed here, but in the head, which gives velocities of the whole clip. `rows` are those of the
K/V buffer: one latent frame a shot, and the longest shot of which something is computed here. In self-attention the
first term of the maximum is the rotation (queries, or what keys and values are made of; half a tensor in fp32
twice; cos and sin of the angles of `a` tokens, those of all frames that the chunk touches), the second the
attention itself (queries and output, then output and projection). The layers run one after the other, so only the
largest counts. In cross-attention t tokens are in work, as many as fit beside the text where self-attention has its
keys and values: it needs no more than that does, and fewer portions.

Where a shot's inputs are held (`Chunks.holding`), the longest shot's are there as well: n·d·e, or n · (d + s).
Where each shot goes through all layers before the next (`holo_lite.model.carrying`), they are there in every layer,
as are keys and values and 2·512·d·e of the text; t is what the rotation's memory has room for then, and the plan
adds up the weights of all layers.

In 8 bits a layer's input goes once it is quantized. With s for a scale and w for what quantizing or multiplying
needs on the way (`holo_lite.eightbit.limits`), whichever is more,

    self-attention  2·rows·d·e  +  max(c · (d·e + 4·d) + 4·a·D, 2·c·d·e, c · (d·e + d + s) + w)
    cross-attention (2·512 + 2·window)·d·e  +  max(2·t·d·e, t · (d·e + d + s) + w)
    feed-forward    the largest of: input quantized, projected up, activations quantized, projected down

An attention kernel may hold something while it works, m bytes a number of the queries and k of the keys. Then a
layer with r rows of keys needs 2·c·d·e + m·c·d + k·r·d in addition, where that is more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from holo_lite.config import PATCH, TEXT_ROWS, DiTConfig
from holo_lite.eightbit.limits import (
    FP32,
    NO_WORKSPACE,
    EightBits,
    LinearMode,
    Workspace,
    coded,
    multiplying,
    quantizing,
    unfit,
)
from holo_lite.model.carrying import is_carried
from holo_lite.model.clip import Clip


@dataclass(frozen=True)
class WorkingSet:
    """Bytes alive at the worst moment of each layer, for one forward over all its branches.

    `keys_values` is that part of self-attention's which is there before its weights are, `held` another one: what
    is held of a shot's inputs. `carried`: a shot goes through all layers, so that their weights are there at once.
    """

    streams: int
    text: int
    keys_values: int
    held: int
    self_attention: int
    cross_attention: int
    feed_forward: int
    head: int
    carried: bool = False

    @property
    def layers(self) -> int:
        """Bytes above weights, residual streams, text and latents: what chunks bound."""
        return max(self.self_attention, self.cross_attention, self.feed_forward)

    @property
    def peak(self) -> int:
        """Bytes above weights and the latents that go in."""
        return self.streams + self.text + max(self.layers, self.head)


def working_set(
    config: DiTConfig,
    clip: Clip,
    *,
    bytes_per_number: int,
    branches: int = 1,
    window: int = TEXT_ROWS,
    linear: LinearMode = "plain",
    device: Literal["cuda", "cpu"] = "cuda",
    workspace: Workspace = NO_WORKSPACE,
) -> WorkingSet:
    """Work out the working set of one forward over `branches` guidance branches.

    It depends on the number of shots only through the representatives in the K/V buffer. `window` is the
    largest number of text rows a shot sees. The device counts in 8 bits alone: a CPU needs more on the way.
    `workspace` is the attention kernel's.
    """
    wide, d, f = config.dim * bytes_per_number, config.dim, config.ffn_dim
    span = clip.stream_rows if clip.attention != "sparse" else clip.longest_here
    attended = min(clip.chunks.attention, span)
    fed = min(clip.chunks.feed_forward, clip.stream_rows)
    projected = min(clip.chunks.attention, clip.stream_rows)
    patch = config.out_dim * PATCH**2
    square, oblong = (_Layer(linear, bytes_per_number, device, d, inner) for inner in (d, f))
    carried = is_carried(clip, linear, d, f)
    told = clip.told_beside if carried else clip.told
    held = square.taken(clip.longest_here) if clip.chunks.holding else 0
    seeing, reading = (  # queries and what comes of them
        2 * rows * wide + workspace.nbytes(rows, keys, d)
        for rows, keys in ((attended, clip.key_rows), (told, window))
    )
    keys_values, of_text = 2 * clip.key_rows * wide, 2 * TEXT_ROWS * wide
    beside = keys_values + held if carried else 0  # of self-attention's, in the other layers
    return WorkingSet(
        streams=branches * clip.stream_rows * wide,
        text=branches * TEXT_ROWS * wide,
        keys_values=keys_values,
        held=held,
        self_attention=keys_values
        + held
        + (of_text if carried else 0)
        + max(
            square.turning(attended, FP32 * config.head_dim * _touched(clip, attended)),
            seeing,
            square.attending(attended),
        ),
        cross_attention=beside
        + of_text
        + max(2 * window * wide + max(square.attending(told), reading), square.reading(TEXT_ROWS)),
        feed_forward=oblong.feeding(fed) + (beside + of_text if carried else 0),
        head=branches * clip.layout.tokens * patch * FP32 + projected * (wide + patch * bytes_per_number),
        carried=carried,
    )


def _touched(clip: Clip, tokens: int) -> int:
    """Tokens of all latent frames that a chunk of so many may touch."""
    size, frames = clip.layout.frame_tokens, clip.layout.latent_frames
    return size * min(frames, (tokens + size - 2) // size + 1)


class _Layer:
    """Bytes that chunks of tokens take in layers whose weights are of (inner, outer) or (outer, inner)."""

    def __init__(self, linear: LinearMode, e: int, device: str, outer: int, inner: int) -> None:
        self._bits: EightBits | None = None if linear == "plain" or unfit(linear, inner, outer) else linear
        self._e, self._on_cpu, self._outer, self._inner = e, device == "cpu", outer, inner

    def turning(self, tokens: int, angles: int) -> int:
        """Queries or keys being rotated, with the angles for it."""
        return tokens * self._outer * (self._e + FP32) + angles

    def attending(self, tokens: int) -> int:
        """The larger of two moments: queries and what they find, and what was found being projected."""
        wide = tokens * self._outer * self._e
        return wide + max(wide, self.taken(tokens) + self._scratch(tokens, self._outer, self._outer))

    def reading(self, rows: int) -> int:
        """The text being processed, in addition to its keys and values."""
        return self.taken(rows) + self._scratch(rows, self._outer, self._outer) if self._bits else 0

    def feeding(self, tokens: int) -> int:
        """The largest moment of a feed-forward."""
        outer, inner, e = self._outer, self._inner, self._e
        if self._bits is None:
            return tokens * (outer + inner) * e
        up, down = coded(tokens, outer), coded(tokens, inner)
        return max(
            tokens * outer * e + up + quantizing(tokens, outer),
            up + tokens * inner * e + self._multiplying(tokens, outer, inner),
            tokens * inner * e + down + quantizing(tokens, inner),
            down + tokens * outer * e + self._multiplying(tokens, inner, outer),
        )

    def taken(self, rows: int) -> int:
        """The input of a product while that is made: itself, or in 8 bits."""
        return coded(rows, self._outer) if self._bits else rows * self._outer * self._e

    def _scratch(self, rows: int, inputs: int, outputs: int) -> int:
        return max(quantizing(rows, inputs), self._multiplying(rows, inputs, outputs)) if self._bits else 0

    def _multiplying(self, rows: int, inputs: int, outputs: int) -> int:
        return multiplying(self._bits, rows, inputs, outputs) if self._bits and self._on_cpu else 0
