"""A scene of the drawn world in words: the storyboard a person would have written for it."""

from __future__ import annotations

from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.tiny.world import COLOURS, FRAMINGS, MOTIONS, PATTERNS, SHAPES, WALLS, Act, Scene, Wall

# Every word a caption of this world can hold, and its marks; the tokenizer knows these and no others. A tag's
# bracket and the comma behind it are one token, as marks without a space between are.
SPECIAL = ("<pad>", "</s>", "<unk>")
MARKS = ("[", "]", ".", ",", "-")
VOCABULARY = tuple(
    dict.fromkeys(
        (
            "global per shot caption cut this scene contains shots a an and is of the setting wall "
            "character1 character2 one two three four five six 1 2 3 4 5 6 "
            + " ".join((*COLOURS, *SHAPES, *WALLS, *PATTERNS, *FRAMINGS, *MOTIONS)).replace("-", " ")
            + " ],"
        ).split()
    )
)


def token_id(word: str) -> int:
    """The number of a word in this world's tokenizer."""
    return (*SPECIAL, *MARKS, *VOCABULARY).index(word)


def storyboard(scene: Scene, title: str | None = None) -> Storyboard:
    """The scene as captions and lengths, its uncaptioned traits left out."""
    shots = tuple(
        Shot(act_caption(act), frames=len(span)) for act, span in zip(scene.acts, scene.spans, strict=True)
    )
    return Storyboard(global_caption=scene_caption(scene), shots=shots, title=title)


def scene_caption(scene: Scene) -> str:
    """Who the characters are, and where."""
    who = " ".join(
        f"[character{number}] is a {character.colour} {character.shape}."
        for number, character in enumerate(scene.characters, start=1)
    )
    return f"{who} The setting is {wall_caption(scene.wall)}."


def wall_caption(wall: Wall) -> str:
    """A wall: ``a striped grey wall``."""
    return f"a {wall.pattern} {wall.colour} wall"


def act_caption(act: Act) -> str:
    """One shot: ``Close-up of [character1] and [character2], moving left.``."""
    who = " and ".join(f"[character{index + 1}]" for index in act.cast)
    return f"{act.framing.capitalize()} of {who}, {act.motion}."
