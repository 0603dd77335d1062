"""How much of a card's time the sizes of chunks waste, counted.

A matrix product is cut into tiles of 128 rows and 256 columns, an attention into pieces of 128 queries of one head.
Each multiprocessor of a card takes one, then the next: a wave. The last wave takes as long as any other, however
few pieces it has. With 64 rows for each multiprocessor, 20 columns of tiles (a width of 5120), 54 (an inner width
of 13824) and 40 heads are all whole waves.

A piece takes as long as its sums are deep: the width that goes in, or the keys that are seen. Libraries may choose
other tiles, so this is an upper bound on what is won.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from holo_lite.config import TEXT_ROWS, DiTConfig
from holo_lite.model.clip import Chunks, Clip, portions

ROWS, COLUMNS = 128, 256  # of a tile
ROWS_EACH = 64  # of a chunk, for each multiprocessor
MOST = Chunks().attention  # tokens of a chunk, unless a card has so many multiprocessors that it needs more

Work = tuple[int, int, int]  # rows, pieces beside each other, how deep


def whole_waves(multiprocessors: int) -> Chunks:
    """Chunks that are whole waves: the most up to 8192 tokens, or the least there are if those are more."""
    least = ROWS_EACH * multiprocessors
    tokens = least * max(1, MOST // least)
    return Chunks(tokens, tokens)


def wave_time(multiprocessors: int, config: DiTConfig, clip: Clip) -> int:
    """What the blocks' products and attentions of one guidance branch take, in waves times their depth."""
    return sum(
        -(-(-(-rows // ROWS) * beside) // multiprocessors) * depth for rows, beside, depth in _work(config, clip)
    )


def useful_share(multiprocessors: int, config: DiTConfig, clip: Clip) -> float:
    """The part of that time in which no multiprocessor is idle, and no row of a tile empty."""
    useful = sum(rows / ROWS * beside * depth for rows, beside, depth in _work(config, clip))
    return useful / multiprocessors / wave_time(multiprocessors, config, clip)


def _work(config: DiTConfig, clip: Clip) -> Iterator[Work]:
    yield from _self_attention(config, clip)
    yield from _cross_attention(config, clip)
    for fed in portions(range(clip.stream_rows), clip.chunks.feed_forward):
        yield _product(fed, config.dim, config.ffn_dim)
        yield _product(fed, config.ffn_dim, config.dim)


def _self_attention(config: DiTConfig, clip: Clip) -> Iterator[Work]:
    size, square = clip.chunks.attention, (config.dim, config.dim)
    own = (clip.piece(clip.own_span(shot)) for shot in clip.shots)
    for span in chain((span for _, span in clip.shared_here), own):
        for tokens in portions(span, size):
            yield from [_product(tokens, *square)] * 2  # keys, values
    for shot, span in clip.query_spans:
        keys = clip.shared_tokens + len(clip.own_span(shot)) + len(clip.repeated_rows(shot))
        for tokens in portions(span, size):
            yield from [_product(tokens, *square)] * 2  # queries, and what comes of them
            yield _rows(tokens), config.num_heads, keys


def _cross_attention(config: DiTConfig, clip: Clip) -> Iterator[Work]:
    for _, span in clip.query_spans:
        for tokens in clip.text_portions(span):
            yield from [_product(tokens, config.dim, config.dim)] * 2
            yield _rows(tokens), config.num_heads, TEXT_ROWS


def _product(tokens: slice, inputs: int, outputs: int) -> Work:
    return _rows(tokens), -(-outputs // COLUMNS), inputs


def _rows(tokens: slice) -> int:
    return int(tokens.stop - tokens.start)
