"""Reads a shot: of all drawings of the world, the one nearest to its pixels.

Nothing is known of what was asked for but where the shot begins and ends. Every wall, framing, motion, and who
stands where, in what shape, colour and shade, with a spot or without, is held against all of the shot's frames; the
smallest squared distance wins. `stencils` says how that is a few matrix products.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from holo_lite.errors import SettingsError
from holo_lite.evaluation.stencils import LOOKS, PAINTS, SLOTS, TIMES, Floats, Stencils
from holo_lite.tiny.drawing import HEIGHT
from holo_lite.tiny.world import FRAMINGS, MOTIONS, PATTERNS, SHAPES, WALLS, Character, Trait, Wall

Exact = NDArray[np.float64]
Frames = NDArray[np.uint8]  # (n, H, W, 3)

NARROWEST = 1.5  # width by height: two close-ups side by side would cover each other in a narrower picture


@dataclass(frozen=True)
class Reading:
    """What a shot shows: its nearest drawing. characters: left to right; residual: root mean square, 0 to 1."""

    wall: Wall
    framing: str
    motion: str
    characters: tuple[Character, ...]
    residual: float

    @property
    def words(self) -> tuple[tuple[str, str], ...]:
        """What captions would tell of the characters."""
        return tuple(character.words for character in self.characters)


@dataclass(frozen=True)
class Fit:
    """The nearest drawing of one framing and motion, and its squared distance."""

    distance: float
    framing: str
    motion: str
    wall: Wall
    characters: tuple[Character, ...]


@dataclass(frozen=True)
class Reader:
    """Reads shots of one size. `pool`: pixels a side that are averaged into one first."""

    stencils: Stencils
    pool: int = 1

    @classmethod
    def of(cls, height: int, width: int) -> Reader:
        """Make ready for a size in pixels. Raises `SettingsError` for one in which the world cannot be drawn."""
        if width < NARROWEST * height:
            raise SettingsError(
                f"{width}×{height}: two characters must fit side by side; give a width of at least "
                f"{NARROWEST} times the height"
            )
        sides = math.gcd(height, width)
        pool = max(k for k in range(1, sides + 1) if sides % k == 0 and (k == 1 or height // k >= HEIGHT))
        return cls(Stencils.of(height // pool, width // pool), pool)

    def read(self, frames: Frames) -> Reading:
        """Read one shot's frames, at most the first 20: no shot of the world is longer."""
        x = self._pixels(frames[:TIMES])
        best = min((fit for framing in FRAMINGS for fit in self._fits(x, framing)), key=lambda fit: fit.distance)
        residual = math.sqrt(max(best.distance, 0.0) / x.size)
        return Reading(best.wall, best.framing, best.motion, best.characters, residual)

    def _pixels(self, frames: Frames) -> Floats:
        """→ (n, 3, pixels), 0 to 1, pooled: each channel by itself, for sums over all its pixels."""
        n, height, width, _ = frames.shape
        k, kept = self.pool, self.stencils
        assert (height, width) == (kept.height * k, kept.width * k), f"a reader of another size: {height}x{width}"
        x: Floats = (frames / np.float32(255)).astype(np.float32)
        if k > 1:
            x = x.reshape(n, height // k, k, width // k, k, 3).mean((2, 4), dtype=np.float32)
        return np.ascontiguousarray(x.reshape(n, -1, 3).transpose(0, 2, 1))

    def _fits(self, x: Floats, framing: str) -> Iterator[Fit]:
        """The nearest drawing of each motion. x: (n, channels, pixels)."""
        reliefs = self.stencils.reliefs[framing]
        seen = np.empty((len(x), len(reliefs) + 1, *x.shape[1:]), np.float32)
        seen[:, 0] = x
        np.multiply(x[:, None], reliefs[None, :, None], out=seen[:, 1:])
        sums = (seen @ np.ones_like(reliefs[0])).sum(0, dtype=np.float64)  # in fp32 it drifts
        bare = _bare_walls(x, sums, self.stencils.bare[framing], self.stencils.thetas)
        rows = seen.reshape(len(x), -1, x.shape[-1])
        for motion in MOTIONS:
            yield _nearest(bare, self._gains(rows, framing, motion), framing, motion)

    def _gains(self, seen: Floats, framing: str, motion: str) -> Floats:
        """What each character adds to the bare wall's distance. → (slots, looks, patterns, walls, paints)."""
        stencils = [self.stencils.at(framing, motion, time) for time in range(len(seen))]
        sums = sum(each.covers @ frame[:, each.span].T for each, frame in zip(stencils, seen, strict=True))
        cost = sum(stencil.cost for stencil in stencils)
        moments = _moments(np.reshape(sums, (len(SLOTS), len(SHAPES) + 1, len(PATTERNS) + 1, 3)))
        gains: Floats = cost - 2 * np.tensordot(moments, self.stencils.thetas, ((3, 4), (0, 2)))
        return gains.reshape(*gains.shape[:3], len(WALLS), len(PAINTS))


def _moments(slots: Floats) -> Floats:
    """Σxφ with a character less without it, from sums over its covers, plain and with each relief.

    → (slots, looks, patterns, 3, channels); looks as `stencils.looks_of` gives them, for all slots at once.
    """
    bodies, spots = slots[:, :-1], slots[:, -1:]
    a = np.repeat(bodies, 2, axis=1)
    v = a[:, :, 0].copy()
    v[:, 1::2] -= spots[:, :, 0]
    patterns = a.shape[2] - 1
    plain, coloured = (np.repeat(each[:, :, None], patterns, axis=2) for each in (a[:, :, 0], v))
    return np.stack([-plain, -a[:, :, 1:], coloured], axis=3)


def _bare_walls(x: Floats, sums: Exact, drawn: Floats, thetas: Floats) -> Exact:
    """Squared distance of each bare wall from all frames. sums: Σx and Σx·R. → (patterns, walls)."""
    walls = thetas[:2].reshape(2, len(WALLS), len(PAINTS), 3)[:, :, 0]
    colour, relief = walls
    total = float(np.square(x, dtype=np.float64).sum())
    fitted = np.stack([colour @ sums[0] + relief @ with_relief for with_relief in sums[1:]])
    distances: Exact = total + len(x) * drawn.astype(np.float64) - 2 * fitted
    return distances


def _nearest(bare: Exact, gains: Floats, framing: str, motion: str) -> Fit:
    """The best wall with the best in each slot: nobody, one in the middle, or two."""
    slots, looks, patterns, walls, paints = gains.shape
    flat = gains.transpose(0, 2, 3, 1, 4).reshape(slots, patterns, walls, looks * paints)
    choice, gain = flat.argmin(-1), flat.min(-1)
    casts = np.stack([np.zeros_like(bare), gain[0], gain[1] + gain[2]])
    distances = bare + casts.min(0)
    pattern, wall = np.unravel_index(distances.argmin(), distances.shape)
    filled = ((), (0,), (1, 2))[int(casts[:, pattern, wall].argmin())]
    return Fit(
        float(distances[pattern, wall]),
        framing,
        motion,
        Wall(WALLS[wall], PATTERNS[pattern]),
        tuple(_character(int(choice[slot, pattern, wall])) for slot in filled),
    )


def _character(choice: int) -> Character:
    (shape, spotted), (colour, pale) = LOOKS[choice // len(PAINTS)], PAINTS[choice % len(PAINTS)]
    return Character(colour, shape, Trait(pale, spotted))
