"""How much memory a forward needs besides the weights.

The formula follows the code in `layers` and `dit`, tensor by tensor. With width d, head width D, inner
width f, e bytes a number, and c tokens of a chunk in work:

    streams          tokens · d·e                  a guidance branch, through all layers
    text             512 · d·e                     a branch, through all layers
    self-attention   2·rows·d·e  +  c · max(2·d·e + 4·d + 4·D + 48, 3·d·e)
    cross-attention  (2·512 + 2·window)·d·e  +  3·c·d·e
    feed-forward     c · (d + f)·e
    head             velocity (tokens · 64 · 4) a branch  +  c · (d + 64)·e

`rows` are those of the K/V buffer: one latent frame a shot, and the longest shot. In self-attention the
first term of the maximum is the rotation (normed input, keys, half a tensor in fp32 twice, the angles' cos
and sin, the tokens' place in the grid), the second the attention itself (queries, output, projection). The
layers run one after the other, so only the largest counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from holo_lite.config import PATCH, DiTConfig
from holo_lite.model.clip import Clip

TEXT_ROWS = 512
FP32 = 4
GRID = 6 * 8  # a token's index, frame and row, and what they are worked out from, int64 each


@dataclass(frozen=True)
class WorkingSet:
    """Bytes alive at the worst moment of each layer, for one forward over all its branches."""

    streams: int
    text: int
    self_attention: int
    cross_attention: int
    feed_forward: int
    head: int

    @property
    def layers(self) -> int:
        """Bytes above weights, residual streams, text and latents: what chunks bound."""
        return max(self.self_attention, self.cross_attention, self.feed_forward)

    @property
    def peak(self) -> int:
        """Bytes above weights and the latents that go in."""
        return self.streams + self.text + max(self.layers, self.head)


def working_set(
    config: DiTConfig, clip: Clip, *, bytes_per_number: int, branches: int = 1, window: int = TEXT_ROWS
) -> WorkingSet:
    """Work out the working set of one forward over `branches` guidance branches.

    It depends on the number of shots only through the representatives in the K/V buffer. `window` is the
    largest number of text rows a shot sees.
    """
    wide = config.dim * bytes_per_number
    span = clip.layout.tokens if clip.attention == "full" else clip.layout.longest
    attended = min(clip.chunks.attention, span)
    rotation = 2 * wide + FP32 * (config.dim + config.head_dim) + GRID
    fed = min(clip.chunks.feed_forward, clip.layout.tokens)
    patch = config.out_dim * PATCH**2
    return WorkingSet(
        streams=branches * clip.layout.tokens * wide,
        text=branches * TEXT_ROWS * wide,
        self_attention=2 * clip.key_rows * wide + attended * max(rotation, 3 * wide),
        cross_attention=2 * (TEXT_ROWS + window) * wide + 3 * attended * wide,
        feed_forward=fed * (wide + config.ffn_dim * bytes_per_number),
        head=branches * clip.layout.tokens * patch * FP32 + attended * (wide + patch * bytes_per_number),
    )
