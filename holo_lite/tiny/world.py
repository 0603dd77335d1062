"""The drawn world: one or two characters before a wall, seen in shots.

A character is a coloured shape. Its colour and shape are in the global caption; its *trait* (a deep or pale
shade, with a spot or without) is not, yet is the same in every shot, so only attention between shots
can keep it. A shot says how near the camera is, how the characters in frame move, and who they are.

Some combinations of character and wall are *held out*: they never occur in training, and the gate uses no
others. Neighbouring shots differ in framing, so that every cut can be seen.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

COLOURS = ("red", "yellow", "green", "cyan", "blue", "purple")
SHAPES = ("square", "circle", "triangle", "cross")
WALLS = ("white", "grey", "black", "brown")
PATTERNS = ("plain", "striped", "dotted")
FRAMINGS = ("close-up", "medium shot", "wide shot")
MOTIONS = ("still", "moving left", "moving right", "moving up", "moving down")

SHOTS = range(2, 7)
SHOT_LATENTS = range(2, 6)  # latent frames of a shot: 5 to 20 frames
CLIP_LATENTS = range(9, 18)  # latent frames of a clip: 33 to 65 frames
HELD_OUT_OF = 6  # one in this many combinations of colour, shape and wall


@dataclass(frozen=True)
class Trait:
    """What no caption contains about a character."""

    pale: bool
    spotted: bool


TRAITS = tuple(Trait(pale, spotted) for pale in (False, True) for spotted in (False, True))


@dataclass(frozen=True)
class Character:
    """A coloured shape with a trait."""

    colour: str
    shape: str
    trait: Trait

    @property
    def words(self) -> tuple[str, str]:
        """What a caption contains about it: colour and shape."""
        return self.colour, self.shape


@dataclass(frozen=True)
class Wall:
    """The wall behind the characters."""

    colour: str
    pattern: str


@dataclass(frozen=True)
class Act:
    """One shot: framing, motion, and who is in frame, as indices of the scene's characters, left to right."""

    framing: str
    motion: str
    cast: tuple[int, ...]
    latents: int = 4  # latent frames


@dataclass(frozen=True)
class Scene:
    """A wall, characters, and shots."""

    wall: Wall
    characters: tuple[Character, ...]
    acts: tuple[Act, ...]

    @property
    def latents(self) -> int:
        """Latent frames of the whole clip."""
        return sum(act.latents for act in self.acts)

    @property
    def frames(self) -> int:
        """Video frames of the whole clip: the first latent frame is one of them, every other four."""
        return 4 * self.latents - 3

    @property
    def spans(self) -> tuple[range, ...]:
        """The video frames of each shot."""
        edges = [0, *(4 * end - 3 for end in accumulate(act.latents for act in self.acts))]
        return tuple(range(a, b) for a, b in pairwise(edges))

    @property
    def cuts(self) -> tuple[int, ...]:
        """First frame of each shot but the first."""
        return tuple(span.start for span in self.spans[1:])


def is_held_out(character: Character, wall: Wall) -> bool:
    """Whether training never sees this colour and shape before a wall of this colour."""
    place = COLOURS.index(character.colour) + SHAPES.index(character.shape) + WALLS.index(wall.colour)
    return place % HELD_OUT_OF == 0


def random_scene(rng: np.random.Generator, *, held_out: bool, latents: int | None = None) -> Scene:
    """Draw a scene at random; all its characters are held out, or none is. `latents` fixes the clip's length."""
    wall = Wall(_pick(rng, WALLS), _pick(rng, PATTERNS))
    characters: list[Character] = []
    count = int(rng.integers(1, 3))
    while len(characters) < count:
        character = Character(_pick(rng, COLOURS), _pick(rng, SHAPES), TRAITS[rng.integers(len(TRAITS))])
        differs = all(character.colour != other.colour for other in characters)
        if differs and is_held_out(character, wall) == held_out:
            characters.append(character)
    total = latents or int(rng.integers(CLIP_LATENTS.start, CLIP_LATENTS.stop))
    return Scene(wall, tuple(characters), _random_acts(rng, len(characters), total))


def _random_acts(rng: np.random.Generator, characters: int, total: int) -> tuple[Act, ...]:
    lengths = _random_lengths(rng, total)
    acts: list[Act] = []
    for index, length in enumerate(lengths):
        framing = _pick(rng, FRAMINGS)
        while acts and framing == acts[-1].framing:
            framing = _pick(rng, FRAMINGS)
        acts.append(Act(framing, _pick(rng, MOTIONS), _random_cast(rng, characters, index), length))
    if all(len(act.cast) == 1 and act.cast == acts[0].cast for act in acts) and characters == 2:
        acts[-1] = dataclasses.replace(acts[-1], cast=(0, 1))  # every introduced character appears
    return tuple(acts)


def _random_cast(rng: np.random.Generator, characters: int, index: int) -> tuple[int, ...]:
    if characters == 1:
        return (0,)
    choices = ((0,), (1,), (0, 1))
    return choices[(index + int(rng.integers(3))) % 3]


def _random_lengths(rng: np.random.Generator, total: int) -> list[int]:
    """Cut `total` latent frames into 2 to 6 shots of 2 to 5."""
    fitting = [n for n in SHOTS if n * SHOT_LATENTS[0] <= total <= n * SHOT_LATENTS[-1]]
    lengths = [SHOT_LATENTS[0]] * fitting[rng.integers(len(fitting))]
    while sum(lengths) < total:
        index = int(rng.integers(len(lengths)))
        lengths[index] += lengths[index] < SHOT_LATENTS[-1]
    return lengths


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[rng.integers(len(choices))]
