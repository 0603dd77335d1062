"""The floor: a step's matrix products and attentions alone, each at the best rate that was measured for it.

A forward is these and what stands between them. They are listed from the clip, as the layers run them: in portions
of so many tokens, shot by shot. Each is timed alone on random numbers, in those portions and in others, whole among
them, and attention with every kernel that computes it exactly; the best counts. Nobody runs faster than their sum
who uses these libraries, and the distance to it is what norms, rotations, gates and waiting cost.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.timing import Repeats, repeated
from holo_lite.config import PATCH, TEXT_ROWS, DiTConfig
from holo_lite.model.clip import Clip, portions
from holo_lite.model.compute import Attend

PORTIONS = (4096, 8192, 16384, 32768)  # rows at once that are tried beside those of the layers
OFTEN = Repeats(3, 60, 0.3)

Windows = Sequence[Sequence[int]] | None  # of each shot, the rows of text it sees


@dataclass(frozen=True)
class Gemm:
    """Products of rows (n, inputs) with a weight (outputs, inputs): n of each as it is run, all `times` over."""

    name: str
    rows: tuple[int, ...]
    inputs: int
    outputs: int
    times: int

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        return 2 * sum(self.rows) * self.inputs * self.outputs * self.times


@dataclass(frozen=True)
class Attention:
    """Attentions of n queries to so many keys: n of each as it is run, all `times` over."""

    name: str
    queries: tuple[int, ...]
    keys: int
    width: int
    times: int

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        return 4 * sum(self.queries) * self.keys * self.width * self.times


def gemms(config: DiTConfig, clip: Clip, windows: Sequence[Windows]) -> list[Gemm]:
    """Every matrix product of a forward whose branches see these windows of text."""
    d, f, n, branches = config.dim, config.ffn_dim, clip.layout.tokens, len(windows)
    visits = config.num_layers * branches
    whole = sizes(range(n), clip.chunks.attention)
    queries = tuple(size for _, span in clip.query_spans for size in sizes(span, clip.chunks.attention))
    fed = sizes(range(n), clip.chunks.feed_forward)
    found = [
        Gemm("self-attention q, o", queries, d, d, 2 * visits),
        Gemm("self-attention k, v", _key_rows(clip), d, d, 2 * visits),
        Gemm("cross-attention k, v", (TEXT_ROWS,), d, d, 2 * visits),
        Gemm("feed-forward up", fed, d, f, visits),
        Gemm("feed-forward down", fed, f, d, visits),
        Gemm("patches", whole, config.in_dim * PATCH**2, d, 1),  # the same for all branches
        Gemm("head", whole, d, config.out_dim * PATCH**2, branches),
        Gemm("time in", (1,), config.freq_dim, d, 1),
        Gemm("time out", (1,), d, d, 1),
        Gemm("time to modulation", (1,), d, 6 * d, 1),
    ]
    told = text_sizes(clip, range(n))
    asked = tuple(size for _, span in clip.query_spans for size in text_sizes(clip, span))
    crossing = Counter(told if seen is None else asked for seen in windows)
    found += [
        Gemm("cross-attention q, o", rows, d, d, 2 * count * config.num_layers) for rows, count in crossing.items()
    ]
    return found


def attentions(config: DiTConfig, clip: Clip, windows: Sequence[Windows]) -> list[Attention]:
    """Every attention of a forward whose branches see these windows of text."""
    d, chunk, layers = config.dim, clip.chunks.attention, config.num_layers
    found = []
    for shot, span in clip.query_spans:
        keys = clip.shared_tokens + len(clip.repeated_rows(shot)) + len(clip.own_span(shot))
        found.append(Attention("self-attention", sizes(span, chunk), keys, d, layers * len(windows)))
    for seen in windows:
        if seen is None:
            whole = text_sizes(clip, range(clip.layout.tokens))
            found.append(Attention("cross-attention", whole, TEXT_ROWS, d, layers))
            continue
        for shot, span in clip.query_spans:
            found.append(Attention("cross-attention", text_sizes(clip, span), len(seen[shot]), d, layers))
    return found


def sizes(span: range, most: int) -> tuple[int, ...]:
    """Lengths of the portions of a span."""
    return tuple(part.stop - part.start for part in portions(span, most))


def text_sizes(clip: Clip, span: range) -> tuple[int, ...]:
    """The same where the span meets a prompt."""
    return tuple(part.stop - part.start for part in clip.text_portions(span))


def _key_rows(clip: Clip) -> tuple[int, ...]:
    """Rows for which keys and values are computed at once: the shared spans', then each shot's own."""
    spans = [*clip.shared_spans, *(clip.own_span(shot) for shot in range(clip.layout.shots))]
    return tuple(size for span in spans for size in sizes(span, clip.chunks.attention))


@dataclass
class Stopwatch:
    """Times products and attentions of one size alone; what has been timed is not timed again."""

    device: torch.device
    dtype: torch.dtype
    heads: int
    kernels: Mapping[str, Attend]
    known: dict[tuple[Any, ...], list[float]] = field(default_factory=dict)

    def gemm(self, rows: int, inputs: int, outputs: int) -> list[float]:
        """Seconds of rows (n, inputs) through a linear layer, several times over."""
        key = ("gemm", rows, inputs, outputs)
        if key not in self.known:
            shapes = ((rows, inputs), (outputs, inputs), (outputs,))
            self.known[key] = self._tried(F.linear, *shapes)
        return self.known[key]

    def attention(self, kernel: str, queries: int, keys: int, width: int) -> list[float]:
        """Seconds of an attention by a kernel, several times over."""
        key = (kernel, queries, keys, width)
        if key not in self.known:
            shapes = ((rows, self.heads, width // self.heads) for rows in (queries, keys, keys))
            self.known[key] = self._tried(self.kernels[kernel], *shapes)
        return self.known[key]

    def _tried(self, call: Callable[..., torch.Tensor], *shapes: tuple[int, ...]) -> list[float]:
        """Seconds of calls with random tensors: endless where there is no memory or a kernel does not take them."""
        try:
            tensors = [torch.randn(shape, dtype=self.dtype, device=self.device) for shape in shapes]
            return repeated(lambda: call(*tensors), self.device, OFTEN)
        except RuntimeError:
            return [math.inf]


@dataclass(frozen=True)
class Best:
    """The best way for one of the list: how, and the seconds of all of it: at its fastest, median and slowest."""

    name: str
    how: str
    fastest: float
    middle: float
    slowest: float
    operations: int

    @property
    def described(self) -> dict[str, Any]:
        """For the record, with the rate."""
        rate = self.operations / self.middle
        return {"name": self.name, "how": self.how, "seconds": self.middle, "operations_a_second": rate}


def floor(found: Sequence[Gemm | Attention], watch: Stopwatch) -> dict[str, Any]:
    """Time a forward's products and attentions, and add up the best. The seconds are as of three forwards.

    Raises `RuntimeError` for a piece that can be run in no way.
    """
    best = [_best_gemm(each, watch) if isinstance(each, Gemm) else _best_attention(each, watch) for each in found]
    if lost := [each.name for each in best if each.middle == math.inf]:
        raise RuntimeError(f"{lost[0]}: runs in no portions and by no kernel")
    return {
        "seconds": [sum(getattr(each, kind) for each in best) for kind in ("fastest", "middle", "slowest")],
        "pieces": [each.described for each in best],
    }


def _best_gemm(gemm: Gemm, watch: Stopwatch) -> Best:
    ways = [
        _summed(gemm, how, [(watch.gemm(size, gemm.inputs, gemm.outputs), count) for size, count in rows.items()])
        for how, rows in _cuts(gemm.rows)
    ]
    return min(ways, key=lambda way: way.middle)


def _best_attention(attention: Attention, watch: Stopwatch) -> Best:
    keys, width = attention.keys, attention.width
    ways = [
        _summed(
            attention,
            f"{kernel}, {how}",
            [(watch.attention(kernel, size, keys, width), count) for size, count in rows.items()],
        )
        for kernel in watch.kernels
        for how, rows in _cuts(attention.queries)
    ]
    return min(ways, key=lambda way: way.middle)


def _cuts(rows: Sequence[int]) -> Iterator[tuple[str, Counter[int]]]:
    """Ways to cut rows: as the layers do, whole, and in portions of other sizes."""
    total, given = sum(rows), Counter(rows)
    yield "as run", given
    if len(rows) > 1:
        yield "whole", Counter([total])
    for size in PORTIONS:
        if size < total and Counter(sizes(range(total), size)) != given:
            yield f"{size} at once", Counter(sizes(range(total), size))


def _summed(piece: Gemm | Attention, how: str, timed: Sequence[tuple[Sequence[float], int]]) -> Best:
    picks = (min, statistics.median, max)
    fastest, middle, slowest = (
        piece.times * sum(count * pick(seconds) for seconds, count in timed) for pick in picks
    )
    return Best(piece.name, how, fastest, middle, slowest, piece.operations)
