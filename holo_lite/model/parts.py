"""What of a step one rank computes, where several compute one clip together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from holo_lite.config import Attention
from holo_lite.model.clip import Chunks, Clip, MakeClip, Share
from holo_lite.story.shots import ShotLayout


@dataclass(frozen=True)
class Part:
    """Guidance branches (0: the prompt's, 1: the negative prompt's), and tokens from `start` up to `stop`.

    `number` is that of the share among those of the same branches; `of` is how many of them there are.
    """

    branches: tuple[int, ...]
    start: int
    stop: int
    number: int = 0
    of: int = 1

    @property
    def tokens(self) -> range:
        """The tokens."""
        return range(self.start, self.stop)

    @property
    def share(self) -> Share | None:
        """The share of a clip; None where that is all of it."""
        return None if self.of == 1 else Share(self.tokens, self.number)

    def first(self, count: int) -> Sequence[int]:
        """Which of so many branches are computed here."""
        return [branch for branch in self.branches if branch < count]

    def of_clips(self, make: MakeClip) -> MakeClip:
        """What makes a clip, with this share of it."""

        def made(layout: ShotLayout, attention: Attention, chunks: Chunks) -> Clip:
            clip = make(layout, attention, chunks)
            return clip if self.share is None else clip.shared_out(self.share)

        return made
