"""The order in which a clip's tokens pass through a layer: spans, and chunks of spans.

Sparse attention lets a shot see the first latent frame of every shot and its own tokens; full attention
lets everything see everything. Both are one scheme: some spans are *shared* (their keys and values are
computed before anything changes, and seen by all), and each shot may have spans *of its own* behind them.
A shot's own first frame is among the shared ones and comes again with its own tokens, so the softmax
counts it twice: the model was trained so.

Integers only: the planner asks the same questions without a tensor library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from holo_lite.config import Attention
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
    """A clip as one forward sees it: its shots, who attends to whom, and in what portions."""

    layout: ShotLayout
    attention: Attention = "sparse"
    chunks: Chunks = Chunks()

    @property
    def shared_spans(self) -> tuple[range, ...]:
        """Spans of tokens every shot attends to, in the order of their rows in the K/V buffer."""
        if self.attention == "full":
            return (range(self.layout.tokens),)
        return tuple(self.layout.representative_span(shot) for shot in range(self.layout.shots))

    @property
    def shared_tokens(self) -> int:
        """Rows of the K/V buffer that hold the shared spans."""
        return sum(len(span) for span in self.shared_spans)

    @property
    def key_rows(self) -> int:
        """Rows of the K/V buffer: the shared tokens, and behind them one shot's own."""
        return self.shared_tokens + (self.layout.longest if self.attention == "sparse" else 0)

    def repeated_rows(self, shot: int) -> range:
        """Rows of the buffer that a shot sees a second time: its own first frame."""
        if self.attention == "full":
            return range(0)
        return range(shot * self.layout.frame_tokens, (shot + 1) * self.layout.frame_tokens)

    def own_span(self, shot: int) -> range:
        """Tokens whose keys and values only this shot sees: all after its first frame."""
        if self.attention == "full":
            return range(0)
        span = self.layout.token_span(shot)
        return span[self.layout.frame_tokens :]

    @property
    def query_spans(self) -> Iterator[tuple[int, range]]:
        """Each shot with all its tokens."""
        for shot in range(self.layout.shots):
            yield shot, self.layout.token_span(shot)


def portions(span: range, size: int) -> Iterator[slice]:
    """Cut a span of tokens into slices of at most `size`."""
    for start in range(span.start, span.stop, size):
        yield slice(start, min(start + size, span.stop))


MakeClip = Callable[[ShotLayout, Attention, Chunks], Clip]  # who attends to whom, in which chunks
