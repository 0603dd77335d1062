"""What a scene of the drawn world is asked for next: one of its shots in another way, or more shots."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from holo_lite.tiny.world import FRAMINGS, MOTIONS, SHOT_LATENTS, Act, Scene

NEW_SHOTS = 3  # of a continuation


def again(scene: Scene, rng: np.random.Generator) -> tuple[int, Scene]:
    """One shot with another framing and motion: its place, from 0, and the scene with it.

    Its characters are shown in other shots, too, wherever there is such a shot, so that they can be compared.
    """
    free = [place for place in range(len(scene.acts)) if _framings(scene, place)]
    compared = [place for place in free if _is_shown_elsewhere(scene, place)] or free
    place = compared[int(rng.integers(len(compared)))]
    act = scene.acts[place]
    new = dataclasses.replace(
        act,
        framing=_pick(rng, _framings(scene, place)),
        motion=_pick(rng, [motion for motion in MOTIONS if motion != act.motion]),
    )
    acts = (*scene.acts[:place], new, *scene.acts[place + 1 :])
    return place, dataclasses.replace(scene, acts=acts)


def further(scene: Scene, rng: np.random.Generator, shots: int = NEW_SHOTS) -> Scene:
    """More shots of the same characters, which follow the last one. No two neighbours are framed alike."""
    acts = [scene.acts[-1]]
    for _ in range(shots):
        framing = _pick(rng, [each for each in FRAMINGS if each != acts[-1].framing])
        cast = ((0,), (1,), (0, 1))[rng.integers(3)] if len(scene.characters) > 1 else (0,)
        acts.append(Act(framing, _pick(rng, MOTIONS), cast, int(rng.choice(SHOT_LATENTS))))
    return dataclasses.replace(scene, acts=tuple(acts[1:]))


def _framings(scene: Scene, place: int) -> list[str]:
    """Framings that neither a shot nor its neighbours have, so that every cut can be seen."""
    taken = {act.framing for act in scene.acts[max(0, place - 1) : place + 2]}
    return [framing for framing in FRAMINGS if framing not in taken]


def _is_shown_elsewhere(scene: Scene, place: int) -> bool:
    others = {index for at, act in enumerate(scene.acts) for index in act.cast if at != place}
    return others.issuperset(scene.acts[place].cast)


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]
