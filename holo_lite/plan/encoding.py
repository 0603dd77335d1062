"""What reading a prompt costs, from the layers of the umt5 encoder.

With n tokens, width d, inner width f, all heads' width k, H heads and e bytes a number:

    positions     (2d + 3k) n·e + 53 n² + 16 n        which of the biases a pair of tokens has, in int64
    attention     (2d + 4k) n·e + 2 H·n²·e + 4 H·n    the biases, twice; the scores are never whole in memory
    feed-forward  3 n·d·e + 4 n·f·e                   gate, its GELU, the other half, the product
    on a card     H·n²·e more in attention: its kernel copies biases whose rows are no multiple of 8
    operations    L · (8 n·d·k + 6 n·d·f + 4 n²·k)

Padding is not computed, so n is at most 512. `tests/plan/test_plan.py` counts the real layers without data.
"""

from __future__ import annotations

from holo_lite.config import TEXT_ROWS
from holo_lite.text.encoder_sizes import EncoderSizes


def attention(sizes: EncoderSizes, bytes_per_number: int, tokens: int = TEXT_ROWS) -> int:
    """Most bytes alive, weights apart, while a prompt of `tokens` attends to itself, no weight in use."""
    e, inner = bytes_per_number, sizes.heads * sizes.d_kv
    positions = (2 * sizes.d_model + 3 * inner) * tokens * e + 53 * tokens**2 + 16 * tokens
    biases = 2 * sizes.heads * tokens**2 * e + 4 * sizes.heads * tokens
    return max(positions, (2 * sizes.d_model + 4 * inner) * tokens * e + biases)


def copied_biases(sizes: EncoderSizes, bytes_per_number: int, tokens: int = TEXT_ROWS) -> int:
    """What a card's attention holds on top of that for a prompt of up to so many tokens."""
    return sizes.heads * tokens**2 * bytes_per_number


def linears(sizes: EncoderSizes, bytes_per_number: int, tokens: int = TEXT_ROWS) -> int:
    """Most bytes alive above the weights while one of the linear layers works."""
    inner = sizes.heads * sizes.d_kv
    widest = max(3 * sizes.d_model + 4 * sizes.d_ff, 2 * sizes.d_model + 4 * inner)
    return widest * tokens * bytes_per_number


def operations(sizes: EncoderSizes, tokens: int = TEXT_ROWS) -> int:
    """Floating-point operations for one prompt of this many tokens."""
    inner = sizes.heads * sizes.d_kv
    linear = 2 * tokens * (4 * sizes.d_model * inner + 3 * sizes.d_model * sizes.d_ff)
    return sizes.layers * (linear + 4 * tokens**2 * inner)
