"""How the world is drawn: a scene becomes frames, exactly and without chance.

Lengths are given for a picture 64 pixels high and grow with it. A character is one shape, filled with the
deep or pale kind of its colour, with a black spot or without; its edge is smoothed over one pixel. Alone it
is in the middle, two are left and right. It begins a little behind the middle, and moves one pixel per frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holo_lite.tiny.world import Act, Character, Scene, Trait, Wall

Picture = NDArray[Any]  # float32; (H, W), or (H, W, 3) with values 0 to 1

HEIGHT = 64  # the picture's height for which lengths are given
HALF = {"close-up": 24.0, "medium shot": 16.0, "wide shot": 10.0}  # half a character's height
PERIOD = {"close-up": 36.0, "medium shot": 26.0, "wide shot": 18.0}  # of a wall's pattern
DIRECTION = {
    "still": (0, 0),
    "moving left": (-1, 0),
    "moving right": (1, 0),
    "moving up": (0, -1),
    "moving down": (0, 1),
}
HEAD_START = 8.0  # how far behind the middle a motion begins
SPEED = 1.0  # pixels a frame
PLACES = {1: (0.5,), 2: (0.28, 0.72)}  # across the picture, by how many are in frame
SPOT, SPOT_DROP = 0.32, 0.25  # radius, and how far below the middle, in halves of the character

HUES = {
    "red": (1, 0, 0),
    "yellow": (1, 1, 0),
    "green": (0, 1, 0),
    "cyan": (0, 1, 1),
    "blue": (0, 0, 1),
    "purple": (1, 0, 1),
}
DEEP, PALE = (0.0, 0.65), (0.55, 1.0)  # what a hue's 0 and 1 become
WALL_COLOURS = {
    "white": (0.9, 0.9, 0.9),
    "grey": (0.5, 0.5, 0.5),
    "black": (0.1, 0.1, 0.1),
    "brown": (0.45, 0.3, 0.15),
}
RELIEF = 0.1  # how far a pattern lies above and below the wall's colour
BLACK = (0.0, 0.0, 0.0)

# Each shape's distance from its edge, negative inside. x to the right, y down, h half its height.
SHAPE_EDGES: Mapping[str, Callable[[Picture, Picture, float], Picture]] = {
    "square": lambda x, y, h: np.maximum(abs(x), abs(y)) - h,
    "circle": lambda x, y, h: np.hypot(x, y) - h,
    "triangle": lambda x, y, h: np.maximum(y - h, (2 * abs(x) - (y + h)) / 5**0.5),
    "cross": lambda x, y, h: np.minimum(
        np.maximum(abs(x) - 0.4 * h, abs(y) - h), np.maximum(abs(x) - h, abs(y) - 0.4 * h)
    ),
}


def draw(scene: Scene, height: int = 64, width: int = 112) -> NDArray[np.uint8]:
    """All frames of a scene. → (frames, H, W, 3) uint8."""
    frames = [
        draw_frame(scene, act, time, height, width)
        for act, span in zip(scene.acts, scene.spans, strict=True)
        for time in range(len(span))
    ]
    return _in_bytes(np.stack(frames))


def still(scene: Scene, act: Act, height: int, width: int) -> NDArray[np.uint8]:
    """The frame with which a shot begins, as a picture. → (H, W, 3) uint8."""
    return _in_bytes(draw_frame(scene, act, 0, height, width))


def draw_frame(scene: Scene, act: Act, time: int, height: int, width: int) -> Picture:
    """Frame `time` (from 0) of a shot. → (H, W, 3), 0 to 1."""
    picture = draw_wall(scene.wall, act.framing, height, width)
    for place, index in enumerate(act.cast):
        character = scene.characters[index]
        body, spot = masks(character.shape, act, len(act.cast), place, time, height, width)
        picture = blend(picture, body, body_colour(character.colour, character.trait))
        if character.trait.spotted:
            picture = blend(picture, spot, BLACK)
    return picture


def draw_wall(wall: Wall, framing: str, height: int, width: int) -> Picture:
    """The wall alone. → (H, W, 3), 0 to 1."""
    x, y = _grid(height, width, width / 2, height / 2)
    relief = _pattern(wall.pattern, x, y, PERIOD[framing] * height / HEIGHT)
    colour = np.array(WALL_COLOURS[wall.colour], np.float32)
    return np.clip(colour + RELIEF * relief[..., None], 0, 1).astype(np.float32)


def masks(
    shape: str, act: Act, count: int, place: int, time: int, height: int, width: int
) -> tuple[Picture, Picture]:
    """How much of each pixel a character's body and its spot cover. → two (H, W), 0 to 1.

    `place` is its place among the `count` in frame.
    """
    unit = height / HEIGHT
    along = SPEED * time - HEAD_START
    dx, dy = DIRECTION[act.motion]
    x, y = _grid(height, width, width * PLACES[count][place] + dx * along * unit, height / 2 + dy * along * unit)
    half = HALF[act.framing] * unit
    body = _cover(SHAPE_EDGES[shape](x, y, half))
    return body, _cover(np.hypot(x, y - SPOT_DROP * half) - SPOT * half)


def body_colour(colour: str, trait: Trait) -> tuple[float, float, float]:
    """A character's colour, deep or pale. → red, green, blue, 0 to 1."""
    levels = PALE if trait.pale else DEEP
    red, green, blue = (levels[part] for part in HUES[colour])
    return red, green, blue


def blend(picture: Picture, cover: Picture, colour: tuple[float, float, float]) -> Picture:
    """Lay a colour over a picture where `cover` says so."""
    return picture + cover[..., None] * (np.array(colour, np.float32) - picture)


def describe(character: Character) -> str:
    """A character with its trait, for people: ``pale red square with a spot``."""
    shade = "pale" if character.trait.pale else "deep"
    return f"{shade} {character.colour} {character.shape}" + (" with a spot" if character.trait.spotted else "")


def _in_bytes(picture: Picture) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = np.round(picture * 255).astype(np.uint8)
    return found


def _pattern(pattern: str, x: Picture, y: Picture, period: float) -> Picture:
    """The wall's relief, -1 to 1."""
    if pattern == "plain":
        return np.zeros_like(x)
    if pattern == "striped":
        stripes: Picture = np.clip(np.sin(2 * np.pi * x / period) * period / 4, -1, 1)
        return stripes
    away = np.hypot(*((part + period / 2) % period - period / 2 for part in (x, y)))
    return 2 * _cover(away - 0.3 * period) - 1


def _grid(height: int, width: int, x: float, y: float) -> tuple[Picture, Picture]:
    """Each pixel's middle, as seen from (x, y)."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32) + 0.5
    return columns - np.float32(x), rows - np.float32(y)


def _cover(distance: Picture) -> Picture:
    cover: Picture = np.clip(0.5 - distance, 0, 1).astype(np.float32)
    return cover
