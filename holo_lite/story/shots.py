"""Frames, cuts and shots, in whole numbers.

The video autoencoder keeps the first frame alone and packs every four that follow into one latent
frame, so a video has 4t+1 frames and t+1 latent frames, and a shot can only begin where a latent
frame begins:

    frame         0 | 1 2 3 4 | 5 6 7 8 | 9 10 11 12 | ...
    latent frame  0 |    1    |    2    |      3     | ...

A cut is the number of the first frame of a shot, counted from 0, and is itself of the form 4t+1. The
rounding below is the reference's to the last half: the model was trained on cuts placed by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

FRAMES_PER_LATENT = 4  # the first latent frame holds one alone
PIXELS_PER_LATENT = 8  # rows, and columns
LATENTS_PER_TOKEN = 2  # rows, and columns
PIXELS_PER_TOKEN = PIXELS_PER_LATENT * LATENTS_PER_TOKEN


def round_frames(n: int) -> int:
    """Return the frame count of the form 4t+1 nearest to ``n``; a tie goes to the even t."""
    return FRAMES_PER_LATENT * round((n - 1) / FRAMES_PER_LATENT) + 1


def latent_frames(num_frames: int) -> int:
    """Return how many latent frames hold ``num_frames`` frames (4t+1 of them)."""
    return (num_frames - 1) // FRAMES_PER_LATENT + 1


def first_latent_frame(cut: int) -> int:
    """Return the latent frame with which the shot that begins at frame ``cut`` begins."""
    return (cut - 1) // FRAMES_PER_LATENT + 1


def latent_frame_of(frame: int) -> int:
    """Return the latent frame that holds ``frame``, both counted from 0."""
    return -(-frame // FRAMES_PER_LATENT)


def even_cuts(num_frames: int, shots: int) -> tuple[int, ...]:
    """Return the cuts that divide ``num_frames`` frames into ``shots`` shots of nearly equal length.

    With fewer than five frames a shot, cuts can fall together or on the end; the caller checks.
    """
    return tuple(round_frames(round(i * num_frames / shots)) for i in range(1, shots))


@dataclass(frozen=True)
class ShotLayout:
    """Where each shot lies among the latent frames and the tokens of one clip.

    Tokens are in (frame, row, column) order, so every shot, and the first latent frame of every
    shot (its representative), is one contiguous run of tokens.

    ``starts`` is the first latent frame of each shot, ``rows`` and ``columns`` the tokens down and
    across one latent frame (height / 16 and width / 16).
    """

    starts: tuple[int, ...]
    latent_frames: int
    rows: int
    columns: int

    def __post_init__(self) -> None:
        edges = (*self.starts, self.latent_frames)
        assert self.starts, "a layout needs a shot"
        assert edges[0] == 0, f"the first shot must start at latent frame 0: {self.starts}"
        assert all(a < b for a, b in pairwise(edges)), f"every shot needs a latent frame: {edges}"
        assert self.rows > 0, f"rows: {self.rows}"
        assert self.columns > 0, f"columns: {self.columns}"

    @classmethod
    def from_frames(cls, num_frames: int, cuts: tuple[int, ...], height: int, width: int) -> ShotLayout:
        """Lay out ``num_frames`` frames of ``height`` x ``width`` pixels, cut at the frames ``cuts``.

        All four must have been checked and rounded before: frames and cuts are of the form 4t+1,
        height and width multiples of 16.
        """
        assert all(n == round_frames(n) for n in (num_frames, *cuts)), f"not rounded: {num_frames}, {cuts}"
        assert height % PIXELS_PER_TOKEN == 0, f"height: {height}"
        assert width % PIXELS_PER_TOKEN == 0, f"width: {width}"
        starts = (0, *(first_latent_frame(cut) for cut in cuts))
        rows, columns = height // PIXELS_PER_TOKEN, width // PIXELS_PER_TOKEN
        return cls(starts, latent_frames(num_frames), rows, columns)

    @property
    def shots(self) -> int:
        """How many shots there are."""
        return len(self.starts)

    @property
    def frame_tokens(self) -> int:
        """Tokens in one latent frame."""
        return self.rows * self.columns

    @property
    def tokens(self) -> int:
        """Tokens in the whole clip."""
        return self.latent_frames * self.frame_tokens

    @property
    def longest(self) -> int:
        """Tokens in the longest shot, which sets the size of the working buffers."""
        edges = (*self.starts, self.latent_frames)
        return max(b - a for a, b in pairwise(edges)) * self.frame_tokens

    @property
    def shot_of_latent_frame(self) -> tuple[int, ...]:
        """The shot, counted from 0, to which each latent frame belongs."""
        return tuple(shot for shot in range(self.shots) for _ in self.frame_span(shot))

    def frame_span(self, shot: int) -> range:
        """Return the latent frames of ``shot``, counted from 0."""
        following = shot + 1
        return range(self.starts[shot], self.starts[following] if following < self.shots else self.latent_frames)

    def token_span(self, shot: int) -> range:
        """Return the tokens of ``shot``, counted from 0 over the whole clip."""
        frames = self.frame_span(shot)
        return range(frames.start * self.frame_tokens, frames.stop * self.frame_tokens)

    def representative_span(self, shot: int) -> range:
        """Return the tokens of the first latent frame of ``shot``, which every other shot sees."""
        first = self.starts[shot] * self.frame_tokens
        return range(first, first + self.frame_tokens)
