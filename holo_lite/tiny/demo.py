"""The storyboard of `holo-lite demo`: five shots of the world the built-in model knows."""

from __future__ import annotations

from itertools import accumulate

from holo_lite.story.storyboard import Storyboard
from holo_lite.tiny.words import storyboard as in_words
from holo_lite.tiny.world import Act, Character, Scene, Trait, Wall

# The traits are for drawing only: no caption contains them, the model chooses its own and keeps them.
SCENE = Scene(
    Wall("grey", "striped"),
    (Character("red", "square", Trait(False, False)), Character("cyan", "circle", Trait(True, True))),
    (
        Act("wide shot", "still", (0, 1), 3),
        Act("close-up", "moving up", (0,), 2),
        Act("medium shot", "moving right", (0, 1), 3),
        Act("close-up", "moving down", (1,), 2),
        Act("wide shot", "moving left", (1,), 3),
    ),
)


def storyboard() -> Storyboard:
    """Two characters who meet: one caption a shot, in the published prompt format."""
    return in_words(SCENE, title="Square meets circle")


def asked(board: Storyboard) -> list[str]:
    """The storyboard for people: who and where, then one line a shot with its frames."""
    ends = list(accumulate(shot.frames or 0 for shot in board.shots))
    return [
        f"        {board.global_caption}",
        *(
            f"shot {number}  frames {end - (shot.frames or 0):2} to {end - 1:2}  {shot.caption}"
            for number, (shot, end) in enumerate(zip(board.shots, ends, strict=True), start=1)
        ),
    ]
