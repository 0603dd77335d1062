"""What reading a prompt costs, from the layers of the umt5 encoder.

With n tokens, width d, inner width f, all heads' width k, H heads and e bytes a number:

    attention     5 n·d·e + H·n² (3e + 8)    bias and scores; their softmax in fp32, and its result in e
                  (fp32: 6 n·d·e + 16 H·n²)
    feed-forward  3 n·d·e + 4 n·f·e          gate, its GELU, the other half, the product
    operations    L · (8 n·d·k + 6 n·d·f + 4 n²·k)

Padding is not computed, so n is at most 512. `tests/test_plan.py` counts the real layers without data.
"""

from __future__ import annotations

from collections.abc import Iterator

from holo_lite.model.memory import FP32, TEXT_ROWS
from holo_lite.text.encoder_files import EncoderSizes

UMT5_XXL = EncoderSizes(vocabulary=256384, d_model=4096, d_ff=10240, d_kv=64, heads=64, layers=24, buckets=32)


def activations(sizes: EncoderSizes, bytes_per_number: int, tokens: int = TEXT_ROWS) -> int:
    """Most bytes alive in a layer above the weights, for one prompt of so many tokens."""
    rows, pairs = tokens * sizes.d_model * bytes_per_number, sizes.heads * tokens**2
    if bytes_per_number == FP32:
        attention = 6 * rows + 16 * pairs
    else:
        attention = 5 * rows + (3 * bytes_per_number + 2 * FP32) * pairs
    return max(attention, 3 * rows + 4 * tokens * sizes.d_ff * bytes_per_number)


def operations(sizes: EncoderSizes, tokens: int = TEXT_ROWS) -> int:
    """Floating-point operations for one prompt of so many tokens."""
    inner = sizes.heads * sizes.d_kv
    linear = 2 * tokens * (4 * sizes.d_model * inner + 3 * sizes.d_model * sizes.d_ff)
    return sizes.layers * (linear + 4 * tokens**2 * inner)


def encoder_shapes(sizes: EncoderSizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the encoder's tensors but its embedding, as transformers names them."""
    inner, d, f = sizes.heads * sizes.d_kv, sizes.d_model, sizes.d_ff
    for block in range(sizes.layers):
        attention, dense = (f"encoder.block.{block}.layer.{part}" for part in (0, 1))
        for name in "qkv":
            yield f"{attention}.SelfAttention.{name}.weight", (inner, d)
        yield f"{attention}.SelfAttention.o.weight", (d, inner)
        yield f"{attention}.SelfAttention.relative_attention_bias.weight", (sizes.buckets, sizes.heads)
        yield f"{attention}.layer_norm.weight", (d,)
        yield f"{dense}.DenseReluDense.wi_0.weight", (f, d)
        yield f"{dense}.DenseReluDense.wi_1.weight", (f, d)
        yield f"{dense}.DenseReluDense.wo.weight", (d, f)
        yield f"{dense}.layer_norm.weight", (d,)
    yield "encoder.final_layer_norm.weight", (d,)
