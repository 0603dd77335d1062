"""How much each latent counts: characters are a small part of the picture and most of the task, spots of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from holo_lite.tiny.drawing import DIRECTION, HALF, HEAD_START, HEIGHT, PLACES, SPEED, SPOT, SPOT_DROP
from holo_lite.tiny.world import Act, Scene

CELL = 8  # pixels of a latent, along each side


def stress_of(scene: Scene, height: int, width: int, character: float, spot: float) -> NDArray[np.float32]:
    """`spot` where a character has its spot or could have it, `character` around it, 1 elsewhere. → (F, h, w)."""
    frames = []
    for act in scene.acts:
        for time in _middles(scene, act):
            body = _boxes(act, time, height, width, reach=1.0, drop=0.0)
            mark = _boxes(act, time, height, width, reach=SPOT, drop=SPOT_DROP)
            frames.append(np.where(mark, spot, np.where(body, character, 1.0)))
    return np.stack(frames).astype(np.float32)


def pixel_stress(act: Act, time: float, height: int, width: int, weight: float) -> NDArray[np.float32]:
    """1, and around characters more: a close one `weight` more, a far one by as much as it is smaller. → (H, W)."""
    body = _boxes(act, time, height, width, reach=1.0, drop=0.0, cell=1)
    smaller = (HALF["close-up"] / HALF[act.framing]) ** 2
    return (1 + weight * smaller * body).astype(np.float32)


def _middles(scene: Scene, act: Act) -> list[float]:
    """The middle of each latent frame of a shot, in video frames from its start."""
    if act is scene.acts[0]:
        return [0.0, *(4 * index - 1.5 for index in range(1, act.latents))]
    return [4 * index + 1.5 for index in range(act.latents)]


def _boxes(
    act: Act, time: float, height: int, width: int, *, reach: float, drop: float, cell: int = CELL
) -> NDArray[Any]:
    """Cells that a box touches around each character, or `drop` below its middle; in halves of a character."""
    unit = height / HEIGHT
    half = HALF[act.framing] * unit
    along = (SPEED * time - HEAD_START) * unit
    dx, dy = DIRECTION[act.motion]
    near = reach * half + cell / 2
    y = np.arange(height // cell)[:, None] * cell + cell / 2 - height / 2 - dy * along - drop * half
    touched = np.zeros((height // cell, width // cell), dtype=bool)
    for place in PLACES[len(act.cast)]:
        x = np.arange(width // cell) * cell + cell / 2 - width * place - dx * along
        touched |= (abs(x) <= near) & (abs(y) <= near)
    return touched
