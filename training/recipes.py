"""How long each part of holo-tiny is trained: the recipe of the weights that are shipped, and a smaller one.

Both make the same architecture from the same world, so what the smaller one makes can stand in for the other
everywhere; it only keeps to its storyboards less well. It is meant to finish within 90 minutes on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from training.dit import DitRecipe
from training.vae import DECODER, VaeRecipe


@dataclass(frozen=True)
class Recipe:
    """All of a training. clips: how many are drawn; storyboards: how many it is measured on at the end.

    Clips seen again and again are remembered instead of understood, so they should be many.
    """

    vae: VaeRecipe = field(default_factory=VaeRecipe)
    dit: DitRecipe = field(default_factory=DitRecipe)
    clips: int = 16384
    storyboards: int = 200


def smaller() -> Recipe:
    """Fewer clips, and of every training the steps that teach most."""
    return Recipe(
        vae=VaeRecipe(decoder=(replace(DECODER, steps=700),)),
        dit=replace(DitRecipe(), steps=1000, expert_steps=(100, 80)),
        clips=2560,
        storyboards=30,
    )


RECIPES = {"full": Recipe(), "small": smaller()}
