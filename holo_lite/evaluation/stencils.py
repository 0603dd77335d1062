"""Everything a shot of the drawn world can look like, as sums that are worked out once for a picture's size.

One channel of a drawn frame is a sum of three terms. With w the wall's level, R its relief, a what a character
covers of each pixel, v what its colour covers (a without the spot) and c the colour's level:

    frame = w·(1 − a) + RELIEF·R·(1 − a) + c·v  =  θ·φ,   θ = (w, RELIEF, c),   φ = (1 − a, R·(1 − a), v)

so its squared distance from pixels x is Σx² − 2 θ·Σxφ + θᵀ(Σφφᵀ)θ. Only Σxφ needs the pixels, and it is a few
matrix products for all hypotheses at once. Characters never overlap, so each *slot* (alone in the middle, the left
of two, the right of two) adds to the distance of the bare wall what is kept here, whatever stands in the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from holo_lite.tiny.drawing import (
    DIRECTION,
    HEAD_START,
    RELIEF,
    SPEED,
    WALL_COLOURS,
    body_colour,
    draw_wall,
    masks,
)
from holo_lite.tiny.world import COLOURS, FRAMINGS, MOTIONS, PATTERNS, SHAPES, SHOT_LATENTS, WALLS, Act, Trait, Wall

Floats = NDArray[np.float32]
Step = tuple[float, float]  # how far a motion has come from the middle, in pixels of a picture 64 high

TIMES = 4 * SHOT_LATENTS[-1]  # frames of the longest shot
SLOTS = ((1, 0), (2, 0), (2, 1))  # how many are in frame, and which of them this is
PAINTS = tuple(itertools.product(COLOURS, (False, True)))  # a character's colour, and whether it is pale
LOOKS = tuple(itertools.product(SHAPES, (False, True)))  # its shape, and whether it has a spot


@dataclass(frozen=True)
class Stencil:
    """One framing at one step of a motion.

    span: the pixels from the first to the last row that anybody covers: nothing happens in the others.
    covers: (slots·5, pixels of the span), of each slot the four shapes, then the spot.
    cost: (slots, looks, patterns, walls·paints), what θᵀ(Σφφᵀ)θ grows by when a character stands there.
    """

    span: slice
    covers: Floats
    cost: Floats


@dataclass(frozen=True)
class Stencils:
    """All framings and steps at one size.

    reliefs: by framing (patterns, pixels), -1 to 1; thetas: (3, walls·paints, channels); bare: by framing
    (patterns, walls), the sum of squares of a frame in which nobody stands.
    """

    height: int
    width: int
    reliefs: Mapping[str, Floats]
    thetas: Floats
    bare: Mapping[str, Floats]
    steps: Mapping[tuple[str, Step], Stencil]

    @classmethod
    @lru_cache(maxsize=2)  # each film, and each way of directing, asks for those of its size
    def of(cls, height: int, width: int) -> Stencils:
        """Work out all stencils of a size: a second, and 30 MB at 64x112."""
        thetas = _thetas()
        reliefs = {framing: _reliefs(framing, height, width) for framing in FRAMINGS}
        steps = {
            (framing, step): _stencil(Act(framing, motion, (0,)), time, reliefs[framing], thetas, height, width)
            for framing in FRAMINGS
            for step, (motion, time) in _distinct_steps().items()
        }
        bare = {framing: _bare(each, thetas) for framing, each in reliefs.items()}
        return cls(height, width, reliefs, thetas, bare, steps)

    def at(self, framing: str, motion: str, time: int) -> Stencil:
        """The stencil of frame `time` of a shot."""
        return self.steps[framing, step_of(motion, time)]


def step_of(motion: str, time: int) -> Step:
    """How far a motion has come at frame `time`, to the right and down."""
    along = SPEED * time - HEAD_START
    dx, dy = DIRECTION[motion]
    return dx * along, dy * along


def _distinct_steps() -> dict[Step, tuple[str, int]]:
    """Every step once, with a motion and a time that reach it: 45, for left and right meet."""
    return {step_of(motion, time): (motion, time) for motion in MOTIONS for time in range(TIMES)}


def _thetas() -> Floats:
    """Levels of wall, relief and character, for every wall's and every character's colour."""
    walls = np.array([WALL_COLOURS[name] for name in WALLS])
    paints = np.array([body_colour(colour, Trait(pale, spotted=False)) for colour, pale in PAINTS])
    shape = (len(walls), len(paints), 3)
    levels = (walls[:, None], np.full((1, 1, 1), RELIEF), paints[None])
    return np.stack([np.broadcast_to(level, shape).reshape(-1, 3) for level in levels]).astype(np.float32)


def _reliefs(framing: str, height: int, width: int) -> Floats:
    walls = (draw_wall(Wall("grey", pattern), framing, height, width)[..., 0] for pattern in PATTERNS)
    levels = np.stack([wall.reshape(-1) for wall in walls])
    return ((levels - WALL_COLOURS["grey"][0]) / RELIEF).astype(np.float32)


def _bare(reliefs: Floats, thetas: Floats) -> Floats:
    """→ (patterns, walls): Σ(w + RELIEF·R)² over pixels and channels."""
    colour, relief = thetas[:2].reshape(2, len(WALLS), len(PAINTS), 3)[:, :, 0]
    return np.stack([np.square(colour[:, None] + relief[:, None] * r[:, None]).sum((1, 2)) for r in reliefs])


def _stencil(act: Act, time: int, reliefs: Floats, thetas: Floats, height: int, width: int) -> Stencil:
    covers = []
    for count, place in SLOTS:
        drawn = [masks(shape, act, count, place, time, height, width) for shape in SHAPES]
        covers.append([*(body for body, _ in drawn), drawn[0][1]])
    whole = np.array(covers, np.float32)
    rows = np.flatnonzero(whole.any((0, 1, 3)))
    span = slice(int(rows[0]) * width, int(rows[-1] + 1) * width)
    flat = np.ascontiguousarray(whole.reshape(len(SLOTS), len(SHAPES) + 1, -1)[..., span])
    squares = np.einsum("kwc,lwc->klw", thetas, thetas)
    cost = np.stack([[_cost(a, v, reliefs[:, span], squares) for a, v in looks_of(slot)] for slot in flat])
    return Stencil(span, flat.reshape(-1, flat.shape[-1]), cost.astype(np.float32))


def looks_of(slot: Floats) -> Iterator[tuple[Floats, Floats]]:
    """Of a slot's rows (shapes and spot, …): for each of `LOOKS` what it covers, and what its colour covers.

    A spot lies within the body, so taking one from the other is what drawing one over the other does.
    """
    for body in slot[:-1]:
        yield body, body
        yield body, body - slot[-1]


def _cost(a: Floats, v: Floats, reliefs: Floats, squares: Floats) -> Floats:
    """→ (patterns, walls·paints): θᵀ(Σφφᵀ)θ with the character less without it."""
    seen = (1 - a) ** 2 - 1  # Σ(1 − a)² less Σ1, pixel by pixel
    front = (1 - a) * v
    ones = np.ones_like(reliefs)
    gram = np.empty((3, 3, len(reliefs)), np.float32)
    gram[0, 0], gram[1, 1] = ones @ seen, reliefs**2 @ seen
    gram[0, 1] = gram[1, 0] = reliefs @ seen
    gram[0, 2] = gram[2, 0] = ones @ front
    gram[1, 2] = gram[2, 1] = reliefs @ front
    gram[2, 2] = ones @ v**2
    return np.einsum("klp,klw->pw", gram, squares, optimize=True)  # type: ignore[no-any-return]
