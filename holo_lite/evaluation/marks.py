"""Marks one storyboard: what was asked for against what was read, each score as hits out of a number of chances.

    cuts                 the cuts found are those asked for                    one a storyboard
    who                  colour and shape of each character, left to right     one a shot
    framing, motion      as asked                                              one a shot
    adherence            who, framing and motion together                      one a shot
    setting              the wall's colour and pattern                         one a shot
    captioned identity   a character's colour and shape are as in the shot
                         in which it appeared before                           one a character and return
    trait                its shade and spot are, which no caption tells        one a character and return
    identity             both                                                  one a character and return
    free of leakage      no wrong character, framing or motion in a shot
                         is one that another of its shots asked for            one a shot

A character is known by its place among those asked for, so one that another number of characters hides is lost.
Of all scores more is better.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from holo_lite.evaluation.reading import Reading
from holo_lite.tiny.world import Act, Character, Scene

SCORES = (
    "cuts",
    "adherence",
    "who",
    "framing",
    "motion",
    "setting",
    "identity",
    "captioned identity",
    "trait",
    "free of leakage",
)


@dataclass(frozen=True)
class Count:
    """Hits out of a number of chances."""

    hits: int
    of: int

    @classmethod
    def over(cls, outcomes: Sequence[bool]) -> Count:
        """Count outcomes."""
        return cls(sum(outcomes), len(outcomes))


Marks = Mapping[str, Count]  # a count for each of SCORES, or of those of new shots


@dataclass(frozen=True)
class ShotMarks:
    """What one shot got right."""

    who: bool
    framing: bool
    motion: bool
    setting: bool
    clean: bool

    @property
    def adheres(self) -> bool:
        """Who is in frame, framing and motion are all as asked."""
        return self.who and self.framing and self.motion


def mark(scene: Scene, cuts: Sequence[int], readings: Sequence[Reading]) -> Marks:
    """Mark a storyboard from the cuts found in it and one reading a shot."""
    shots = mark_shots(scene, readings)
    returns = list(_returns(scene, readings))
    outcomes = {
        "cuts": [tuple(cuts) == scene.cuts],
        "adherence": [shot.adheres for shot in shots],
        "who": [shot.who for shot in shots],
        "framing": [shot.framing for shot in shots],
        "motion": [shot.motion for shot in shots],
        "setting": [shot.setting for shot in shots],
        "identity": [_same(pair, "words") and _same(pair, "trait") for pair in returns],
        "captioned identity": [_same(pair, "words") for pair in returns],
        "trait": [_same(pair, "trait") for pair in returns],
        "free of leakage": [shot.clean for shot in shots],
    }
    return {name: Count.over(outcomes[name]) for name in SCORES}


def mark_shots(scene: Scene, readings: Sequence[Reading]) -> list[ShotMarks]:
    """What each shot got right."""
    return [_mark_shot(scene, act, reading) for act, reading in zip(scene.acts, readings, strict=True)]


def mean_of(marks: Marks) -> float:
    """One number for a storyboard, to find the worst: the mean share of hits."""
    shares = [count.hits / count.of for count in marks.values() if count.of]
    return sum(shares) / len(shares)


def _mark_shot(scene: Scene, act: Act, reading: Reading) -> ShotMarks:
    return ShotMarks(
        who=reading.words == asked_words(scene, act),
        framing=reading.framing == act.framing,
        motion=reading.motion == act.motion,
        setting=reading.wall == scene.wall,
        clean=not _leaks(scene, act, reading),
    )


def asked_words(scene: Scene, act: Act) -> tuple[tuple[str, str], ...]:
    """Colour and shape of those a shot asks for, left to right."""
    return tuple(scene.characters[index].words for index in act.cast)


def _leaks(scene: Scene, act: Act, reading: Reading) -> bool:
    """Whether something wrong in a shot is what another one asked for."""
    others = [other for other in scene.acts if other is not act]
    absent = {words for other in others for words in asked_words(scene, other)} - {*asked_words(scene, act)}
    return (
        not absent.isdisjoint(reading.words)
        or (reading.framing != act.framing and reading.framing in {other.framing for other in others})
        or (reading.motion != act.motion and reading.motion in {other.motion for other in others})
    )


Pair = tuple[Character | None, Character | None]


def _returns(scene: Scene, readings: Sequence[Reading]) -> Iterator[Pair]:
    """Each character as read in two shots with none of it between; None where it was lost."""
    for index in range(len(scene.characters)):
        seen = [
            reading.characters[act.cast.index(index)] if len(reading.characters) == len(act.cast) else None
            for act, reading in zip(scene.acts, readings, strict=True)
            if index in act.cast
        ]
        yield from pairwise(seen)


def _same(pair: Pair, what: str) -> bool:
    one, other = pair
    return one is not None and other is not None and getattr(one, what) == getattr(other, what)
