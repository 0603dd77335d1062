"""The storyboard of `holo-lite demo`."""

from __future__ import annotations

from holo_lite.story.storyboard import Shot, Storyboard


def storyboard() -> Storyboard:
    """Three shots of different length, in the published prompt format."""
    return Storyboard(
        title="A walk to the sea",
        global_caption=(
            "[character1] is a young woman in a red coat. The setting is a small white house on a green field by "
            "the sea, on a quiet morning with gold light."
        ),
        shots=(
            Shot("Wide shot of [character1] at the door of the house, looking toward the sea.", frames=17),
            Shot("Close-up of the hand of [character1] on the gate, slowly turning the latch.", frames=12),
            Shot("Medium shot from behind [character1] as she walks down the road to the water.", frames=20),
        ),
    )
