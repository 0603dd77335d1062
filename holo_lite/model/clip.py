"""The order in which a clip's tokens pass through a layer: spans, and chunks of spans.

Sparse attention lets a shot see the first latent frame of every shot and its own tokens; full attention
lets everything see everything. Both are one scheme: some spans are *shared* (their keys and values are
computed before anything changes, and seen by all), and each shot may have spans *of its own* behind them.
A shot's own first frame is among the shared ones and comes again with its own tokens, so the softmax
counts it twice: the model was trained so.

Shots may be computed by several ranks, each with a clip that says which are its own. A token keeps its number in
the whole clip, wherever it is computed; `rows` says where it is in a stream that has no row for the others.

Integers only: the planner asks the same questions without a tensor library. What is asked for every shot, and
is of all shots, is worked out once: with a thousand shots it would otherwise be most of a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from holo_lite.config import TEXT_ROWS, Attention
from holo_lite.story.shots import ShotLayout
from holo_lite.system.records import Positive


@dataclass(frozen=True)
class Chunks:
    """How many tokens are in work at once: a bound on memory, without influence on what is computed."""

    attention: Positive = 8192
    feed_forward: Positive = 4096

    def __post_init__(self) -> None:
        assert self.attention > 0
        assert self.feed_forward > 0


@dataclass(frozen=True)
class Clip:
    """A clip as one forward sees it: its shots, who attends to whom, and in what portions.

    `owned` are the shots computed here (None: all of them). `frozen` are latent frames that are given and stay: all
    shots see them as they see others, and their velocity is zero.
    """

    layout: ShotLayout
    attention: Attention = "sparse"
    chunks: Chunks = Chunks()
    owned: frozenset[int] | None = None
    frozen: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        assert self.owned is None or self.owned <= set(range(self.layout.shots)), f"no such shots: {self.owned}"
        assert self.frozen <= set(range(self.layout.latent_frames)), f"no such latent frames: {self.frozen}"

    @property
    def shots(self) -> Sequence[int]:
        """Shots computed here, in order."""
        return range(self.layout.shots) if self.owned is None else sorted(self.owned)

    @property
    def runs(self) -> tuple[range, ...]:
        """Tokens computed here, in the order of their rows. Neighbouring shots are one run."""
        if self.owned is None:
            return (range(self.layout.tokens),)
        return joined(self.layout.token_span(shot) for shot in self.shots)

    @property
    def stream_rows(self) -> int:
        """Rows of a stream: the tokens computed here."""
        return sum(len(run) for run in self.runs)

    def rows(self, tokens: slice) -> slice:
        """Rows of a stream that hold these tokens, which are of one run. With every shot here, the same numbers."""
        if self.owned is None:
            return tokens
        first = 0
        for run in self.runs:
            if tokens.start in run:
                shift = first - run.start
                return slice(tokens.start + shift, tokens.stop + shift)
            first += len(run)
        raise AssertionError(f"not computed here: {tokens}")

    @property
    def moving(self) -> tuple[range, ...]:
        """Tokens of `runs` whose velocity is wanted: those in frames that are not given."""
        if not self.frozen:
            return self.runs
        size = self.layout.frame_tokens
        frames = (frame for shot in self.shots for frame in self.layout.frame_span(shot))
        return joined(range(frame * size, (frame + 1) * size) for frame in frames if frame not in self.frozen)

    @property
    def is_whole(self) -> bool:
        """Whether every token's velocity is computed here."""
        return self.owned is None and not self.frozen

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
            for run in self.runs:
                if piece := range(max(span.start, run.start), min(span.stop, run.stop)):
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
        queries = min(self.chunks.attention, self.longest)
        return max(1, queries + max(0, self.key_rows - 2 * TEXT_ROWS) // 2)

    @property
    def told(self) -> int:
        """Tokens of the largest portion that meets a prompt, with windows or without."""
        spans = (*self.runs, *(span for _, span in self.query_spans))
        return max((part.stop - part.start for span in spans for part in self.text_portions(span)), default=0)

    def text_portions(self, span: range) -> Iterator[slice]:
        """The portions in which a span meets a prompt: few, and alike, for some kernels prepare each size apart."""
        return even_portions(span, self.text_queries)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest shot computed here."""
        return max((len(self.layout.token_span(shot)) for shot in self.shots), default=0)

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
        """Each shot computed here, with all its tokens."""
        for shot in self.shots:
            yield shot, self.layout.token_span(shot)


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
