"""The order in which a clip's tokens pass through a layer: spans, and chunks of spans.

Sparse attention lets a shot see the first latent frame of every shot and its own tokens; full attention
lets everything see everything. Both are one scheme: some spans are *shared* (their keys and values are
computed before anything changes, and seen by all), and each shot may have spans *of its own* behind them.
A shot's own first frame is among the shared ones and comes again with its own tokens, so the softmax
counts it twice: the model was trained so.

A clip may be computed by several ranks, each with a share of its tokens, one after the other. A token keeps its
number in the whole clip, wherever it is computed; `rows` says where it is in a stream that has no row for the
others. A shot that lies in two shares or more is *divided*: its keys and values are needed by all who have some of
it.

Integers only: the planner asks the same questions without a tensor library. What is asked for every shot, and
is of all shots, is worked out once: with a thousand shots it would otherwise be most of a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from holo_lite.config import TEXT_ROWS, Attention
from holo_lite.story.shots import ShotLayout
from holo_lite.system.record_fields import Positive


@dataclass(frozen=True)
class Chunks:
    """How many tokens are in work at once: a bound on memory, without influence on what is computed.

    holding: what self-attention reads of a shot is made once and held, for keys and values and then for queries.
    """

    attention: Positive = 8192
    feed_forward: Positive = 4096
    holding: bool = False

    def __post_init__(self) -> None:
        assert self.attention > 0
        assert self.feed_forward > 0


@dataclass(frozen=True)
class Share:
    """The tokens of a clip that one rank computes, and the share's number in the order of the clip."""

    tokens: range
    number: int = 0


@dataclass(frozen=True)
class Clip:
    """A clip as one forward sees it: its shots, who attends to whom, and in what portions.

    `share` is what is computed here (None: all of it). `frozen` are latent frames that are given and stay: all
    shots see them as they see others, and their velocity is zero.
    """

    layout: ShotLayout
    attention: Attention = "sparse"
    chunks: Chunks = Chunks()
    share: Share | None = None
    frozen: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        assert self.here, "a share has at least one token"
        assert self.here.start >= 0, f"no such tokens: {self.here}"
        assert self.here.stop <= self.layout.tokens, f"no such tokens: {self.here}"
        assert self.frozen <= set(range(self.layout.latent_frames)), f"no such latent frames: {self.frozen}"

    def shared_out(self, share: Share) -> Clip:
        """The same clip where only a share of it is computed."""
        return replace(self, share=share)

    @property
    def here(self) -> range:
        """Tokens computed here, in the order of their rows."""
        return range(self.layout.tokens) if self.share is None else self.share.tokens

    @property
    def shots(self) -> Sequence[int]:
        """Shots of which something is computed here, in order."""
        shots = range(self.layout.shots)
        return shots if self.share is None else [shot for shot in shots if self.piece(self._span(shot))]

    @property
    def stream_rows(self) -> int:
        """Rows of a stream: the tokens computed here."""
        return len(self.here)

    def rows(self, tokens: slice) -> slice:
        """Rows of a stream that hold these tokens, which are computed here. With all here, the same numbers."""
        first = self.here.start
        assert first <= tokens.start <= tokens.stop <= self.here.stop, f"not computed here: {tokens}"
        return slice(tokens.start - first, tokens.stop - first)

    def piece(self, span: range) -> range:
        """What is computed here of a span of tokens."""
        return common(span, self.here)

    @property
    def moving(self) -> tuple[range, ...]:
        """Tokens computed here whose velocity is wanted: those in frames that are not given."""
        if not self.frozen:
            return (self.here,)
        size = self.layout.frame_tokens
        frames = (frame for frame in range(self.layout.latent_frames) if frame not in self.frozen)
        return joined(filter(None, (self.piece(range(frame * size, (frame + 1) * size)) for frame in frames)))

    @property
    def is_whole(self) -> bool:
        """Whether every token's velocity is computed here."""
        return self.share is None and not self.frozen

    @property
    def shared_spans(self) -> tuple[range, ...]:
        """Spans of tokens every shot attends to, in the order of their rows in the K/V buffer."""
        if self.attention != "sparse":
            return (range(self.layout.tokens),)
        return tuple(self.layout.representative_span(shot) for shot in range(self.layout.shots))

    @property
    def shared_here(self) -> Iterator[tuple[int, range]]:
        """What is computed here of the shared spans: the buffer's row at which a piece begins, and its tokens."""
        row = 0
        for span in self.shared_spans:
            if piece := self.piece(span):
                yield row + piece.start - span.start, piece
            row += len(span)

    @cached_property
    def shared_tokens(self) -> int:
        """Rows of the K/V buffer that hold the shared spans."""
        return sum(len(span) for span in self.shared_spans)

    @property
    def key_rows(self) -> int:
        """Rows of the K/V buffer: the shared tokens, and behind them one shot's own."""
        return self.shared_tokens + (self.longest if self.attention == "sparse" else 0)

    @cached_property
    def text_queries(self) -> int:
        """The most queries that meet a prompt at once: no more than self-attention's memory has room for.

        It had a chunk of queries, and two rows of keys and values where there is a prompt's now. A query takes four
        rows of a stream at most.
        """
        queries = min(self.chunks.attention, self.longest_here)
        return max(1, queries + max(0, self.key_rows - 2 * TEXT_ROWS) // 2)

    @cached_property
    def text_queries_beside(self) -> int:
        """The same where self-attention's keys and values stay: as many as fit where a chunk was turned.

        That took three rows of a stream in bf16 a token, its own and half a row of fp32 twice. Here it is two.
        """
        chunk = self.chunks.attention
        return min(chunk + max(0, chunk // 2 - TEXT_ROWS), self.longest_here)

    @property
    def told_beside(self) -> int:
        """Tokens of the largest such portion."""
        spans = (span for _, span in self.query_spans)
        parts = (part for span in spans for part in even_portions(span, self.text_queries_beside))
        return max((part.stop - part.start for part in parts), default=0)

    @property
    def told(self) -> int:
        """Tokens of the largest portion that meets a prompt, with windows or without."""
        spans = (self.here, *(span for _, span in self.query_spans))
        return max((part.stop - part.start for span in spans for part in self.text_portions(span)), default=0)

    def text_portions(self, span: range) -> Iterator[slice]:
        """The portions in which a span meets a prompt: few, and alike, for some kernels prepare each size apart."""
        return even_portions(span, self.text_queries)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest shot of which something is computed here: all of its keys are needed."""
        return max(len(self._span(shot)) for shot in self.shots)

    @cached_property
    def longest_here(self) -> int:
        """The most tokens of one shot that are computed here."""
        return max(len(span) for _, span in self.query_spans)

    def repeated_rows(self, shot: int) -> range:
        """Rows of the buffer that a shot sees a second time: its own first frame."""
        if self.attention != "sparse":
            return range(0)
        return range(shot * self.layout.frame_tokens, (shot + 1) * self.layout.frame_tokens)

    def own_span(self, shot: int) -> range:
        """Tokens whose keys and values only this shot sees: all after its first frame."""
        if self.attention != "sparse":
            return range(0)
        span = self.layout.token_span(shot)
        return span[self.layout.frame_tokens :]

    @property
    def query_spans(self) -> Iterator[tuple[int, range]]:
        """Each shot of which something is computed here, with those tokens of it."""
        for shot in self.shots:
            yield shot, self.piece(self._span(shot))

    def is_divided(self, shot: int) -> bool:
        """Whether some of a shot is computed here and some elsewhere, so that keys are needed from each other."""
        return bool(self.own_span(shot)) and self.piece(self._span(shot)) != self._span(shot)

    @property
    def visits(self) -> Iterator[tuple[int, range]]:
        """`query_spans` in the order in which self-attention goes through them: those that ranks meet for first.

        A share has one divided shot at each end at most. Every other share begins with its last: so neighbours meet
        in pairs, all at once, and a rank with a later pair waits for one visit alone.
        """
        if self.share is None:
            return self.query_spans
        met = [pair for pair in self.query_spans if self.is_divided(pair[0])]
        others = [pair for pair in self.query_spans if pair not in met]
        return iter([*(met if self.share.number % 2 else reversed(met)), *others])

    def _span(self, shot: int) -> range:
        return self.layout.token_span(shot)


def common(a: range, b: range) -> range:
    """What two spans have in common; empty if nothing."""
    return range(max(a.start, b.start), max(a.start, b.start, min(a.stop, b.stop)))


def joined(spans: Iterable[range]) -> tuple[range, ...]:
    """Spans in order, those that touch as one."""
    found: list[range] = []
    for span in spans:
        if found and found[-1].stop == span.start:
            found[-1] = range(found[-1].start, span.stop)
        else:
            found.append(span)
    return tuple(found)


def portions(span: range, size: int) -> Iterator[slice]:
    """Cut a span of tokens into slices of at most `size`."""
    for start in range(span.start, span.stop, size):
        yield slice(start, min(start + size, span.stop))


def even_portions(span: range, most: int) -> Iterator[slice]:
    """Cut a span of tokens into few slices of at most `most`, of one size where there is one that divides it."""
    least = -(-len(span) // most)
    count = next((count for count in range(least, 2 * least) if len(span) % count == 0), least)
    return portions(span, -(-len(span) // count) if count else 1)


MakeClip = Callable[[ShotLayout, Attention, Chunks], Clip]  # who attends to whom, in which chunks
