"""Marks new shots: do they show what was asked for, and is every character what it was before?

What a character was, no caption tells: it is read in the pixels of the old film. A character that the old film does
not show, or not clearly, is no chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from holo_lite.evaluation.marks import Count, Marks, mark_shots
from holo_lite.evaluation.reading import Reading
from holo_lite.tiny.world import Scene, Trait

Traits = Mapping[int, Trait]  # by the character's place in its scene


def traits_shown(scene: Scene, readings: Sequence[Reading], but: int | None = None) -> Traits:
    """The trait that each character has in most of a film's shots (the earlier where two are as many).

    `but` is the place of a shot that does not count.
    """
    seen: dict[int, list[Trait]] = {}
    for place, (act, reading) in enumerate(zip(scene.acts, readings, strict=True)):
        if place != but and len(reading.characters) == len(act.cast):
            for index, character in zip(act.cast, reading.characters, strict=True):
                seen.setdefault(index, []).append(character.trait)
    return {index: Counter(traits).most_common(1)[0][0] for index, traits in seen.items()}


def mark_new(
    scene: Scene, cuts: Sequence[int], readings: Sequence[Reading], new: Sequence[int], traits: Traits
) -> Marks:
    """Mark the new shots of a clip, by their places, and its cuts. readings: one for each shot of `scene`."""
    every = mark_shots(scene, readings)
    shots = [every[place] for place in new]
    return {
        "cuts": Count.over([tuple(cuts) == scene.cuts]),
        "adherence": Count.over([shot.adheres and shot.setting for shot in shots]),
        "who": Count.over([shot.who for shot in shots]),
        "framing": Count.over([shot.framing for shot in shots]),
        "motion": Count.over([shot.motion for shot in shots]),
        "setting": Count.over([shot.setting for shot in shots]),
        "trait": Count.over([kept for place in new for kept in _kept(scene, readings, place, traits)]),
    }


def _kept(scene: Scene, readings: Sequence[Reading], place: int, traits: Traits) -> Iterator[bool]:
    """For each character of a shot whose trait is known: whether it has it. One that was lost has not."""
    cast, found = scene.acts[place].cast, readings[place].characters
    for at, index in enumerate(cast):
        if index in traits:
            yield len(found) == len(cast) and found[at].trait == traits[index]
