"""Where the characters are, in latents: a small part of the picture, and most of the task."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from holo_lite.tiny.drawing import DIRECTION, HALF, HEAD_START, HEIGHT, PLACES, SPEED
from holo_lite.tiny.world import Act, Scene

CELL = 8  # pixels of a latent, along each side


def character_boxes(scene: Scene, height: int, width: int) -> NDArray[np.float32]:
    """1 where a box around a character touches a latent, 0 elsewhere. → (F, h, w)."""
    frames = [_boxes(act, time, height, width) for act in scene.acts for time in _middles(scene, act)]
    return np.stack(frames).astype(np.float32)


def _middles(scene: Scene, act: Act) -> list[float]:
    """The middle of each latent frame of a shot, in video frames from its start."""
    if act is scene.acts[0]:
        return [0.0, *(4 * index - 1.5 for index in range(1, act.latents))]
    return [4 * index + 1.5 for index in range(act.latents)]


def _boxes(act: Act, time: float, height: int, width: int) -> NDArray[Any]:
    unit = height / HEIGHT
    along = (SPEED * time - HEAD_START) * unit
    dx, dy = DIRECTION[act.motion]
    reach = HALF[act.framing] * unit + CELL / 2
    y = np.arange(height // CELL)[:, None] * CELL + CELL / 2 - height / 2 - dy * along
    touched = np.zeros((height // CELL, width // CELL), dtype=bool)
    for place in PLACES[len(act.cast)]:
        x = np.arange(width // CELL) * CELL + CELL / 2 - width * place - dx * along
        touched |= (abs(x) <= reach) & (abs(y) <= reach)
    return touched
