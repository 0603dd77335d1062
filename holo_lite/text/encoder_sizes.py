"""The sizes of a umt5 encoder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EncoderSizes:
    """The sizes of the network, read from the shapes."""

    vocabulary: int
    d_model: int
    d_ff: int
    d_kv: int
    heads: int
    layers: int
    buckets: int


UMT5_XXL = EncoderSizes(vocabulary=256384, d_model=4096, d_ff=10240, d_kv=64, heads=64, layers=24, buckets=32)
