"""Drawn clips of the small world, whole and spliced, for tests of the gate."""

import dataclasses

import numpy as np

from holo_lite.evaluation.reading import Reading
from holo_lite.tiny.drawing import draw
from holo_lite.tiny.world import Act, Character, Scene, Trait, Wall, random_scene

RED = Character("red", "square", Trait(pale=False, spotted=False))
BLUE = Character("blue", "circle", Trait(pale=True, spotted=True))
PLAIN = Wall("grey", "striped")
SCENE = Scene(
    PLAIN,
    (RED, BLUE),
    (
        Act("close-up", "still", (0,), 2),
        Act("wide shot", "moving left", (0, 1), 2),
        Act("medium shot", "moving right", (1,), 3),
        Act("wide shot", "moving up", (0, 1), 2),
    ),
)


def scenes(count, seed=0):
    rng = np.random.default_rng(seed)
    return [random_scene(rng, held_out=index % 2 == 0) for index in range(count)]


def truth(scene):
    """What a perfect reader says of a drawn scene."""
    return [
        Reading(scene.wall, act.framing, act.motion, tuple(scene.characters[i] for i in act.cast), 0.0)
        for act in scene.acts
    ]


def with_act(scene, index, **changes):
    acts = [*scene.acts]
    acts[index] = dataclasses.replace(acts[index], **changes)
    return dataclasses.replace(scene, acts=tuple(acts))


def with_character(scene, index, **changes):
    characters = [*scene.characters]
    characters[index] = dataclasses.replace(characters[index], **changes)
    return dataclasses.replace(scene, characters=tuple(characters))


def spliced(scene, other, shot, height=64, width=112):
    """The scene's frames, with one shot taken from another scene of the same timing."""
    frames, span = draw(scene, height, width), scene.spans[shot]
    frames[span.start : span.stop] = draw(other, height, width)[span.start : span.stop]
    return frames


def noisy(frames, sigma, seed=0):
    noise = np.random.default_rng(seed).normal(0, 255 * sigma, frames.shape)
    return np.clip(frames + noise, 0, 255).round().astype(np.uint8)


def blurred(frames):
    """A box of three pixels each way."""
    x = frames.astype(np.float32)
    for axis in (1, 2):
        x = (np.roll(x, 1, axis) + x + np.roll(x, -1, axis)) / 3
    return x.round().astype(np.uint8)
