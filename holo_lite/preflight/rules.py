"""What is allowed in a storyboard and may still go wrong: one function per rule.

Each looks at the captions or at the frames of the shots and yields what it finds, for a person to judge: nothing
here stops a run. What would stop one is an error, raised where the storyboard is read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from holo_lite.config import TEXT_ROWS
from holo_lite.errors import nearest
from holo_lite.settings import RunSettings
from holo_lite.story.numbered import numbered_shots
from holo_lite.story.shots import FRAMES_PER_LATENT
from holo_lite.story.storyboard import Storyboard
from holo_lite.story.timeline import TRAINED_FRAMES, Timeline

Rule = Literal[
    "numbered shots",
    "unknown tag",
    "unused tag",
    "shot count",
    "alike",
    "short shot",
    "long shot",
    "long video",
    "long text",
]
NOTES: frozenset[Rule] = frozenset({"long shot", "long video"})  # a person may well mean it

NAME = re.compile(r"\[([^\[\]]+)\]")  # how a prompt names a person: [character1]
COUNT = re.compile(r"This scene contains (\w+) shots?\b", re.IGNORECASE)
NUMBERS = (
    *("no", "one", "two", "three", "four", "five", "six", "seven"),
    *("eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen"),
)
HAN = "\u3040-\u30ff\u3400-\u9fff"  # written without spaces: each character counts as a word
WORD = re.compile(rf"[{HAN}]|[^\W{HAN}]+")
ALIKE = 0.85  # of two captions' words; one word of six differs at 0.83
MANY_WORDS = 350  # a word of English is 1.4 tokens or so
MOVES = 2  # latent frames: with one, a shot is a still


@dataclass(frozen=True)
class CheckFinding:
    """Something a person should look at. `shots` are those it concerns, counted from 1."""

    rule: Rule
    message: str
    shots: tuple[int, ...] = ()

    @property
    def is_note(self) -> bool:
        """Whether it is only worth knowing; anything else is probably a mistake."""
        return self.rule in NOTES


def findings(board: Storyboard, timeline: Timeline) -> tuple[CheckFinding, ...]:
    """Everything that the rules find, in their order."""
    return tuple(found for rule in RULES for found in rule(board, timeline))


def finding_notes(settings: RunSettings) -> Iterator[str]:
    """What the rules find in a run that is decided, as notes for a person; the timeline has one of its length."""
    for found in findings(settings.storyboard, settings.shown):
        if found.rule != "long video" and not (found.rule == "long shot" and not settings.shown.cuts):
            yield f"{found.rule}: {found.message}"


def numbered(board: Storyboard, _: Timeline) -> Iterator[CheckFinding]:
    """A text that numbers its shots, which to the model is one shot of everything."""
    offered = numbered_shots(board.raw) if board.raw is not None and board.shot_count == 1 else None
    if offered is not None:
        yield CheckFinding(
            "numbered shots",
            f"the text numbers {offered.shot_count} shots, but is one shot as it is; as a storyboard it is: "
            f"{offered.prompt}",
        )


def unknown_names(board: Storyboard, _: Timeline) -> Iterator[CheckFinding]:
    """Names that shots use and the global caption does not introduce: the model does not know how they look."""
    known = _names(board.scene)
    users: dict[str, list[int]] = {}
    for number, caption in enumerate(board.shot_captions(), start=1):
        for name in sorted(_names(caption) - known):
            users.setdefault(name, []).append(number)
    for name, shots in users.items():
        hint = nearest(name, known) or "; describe there who it is"
        yield CheckFinding(
            "unknown tag",
            f"[{name}] in {_shots(shots)} is not introduced in the global caption{hint}",
            tuple(shots),
        )


def unused_names(board: Storyboard, _: Timeline) -> Iterator[CheckFinding]:
    """Names that the global caption introduces and no shot uses."""
    captions = board.shot_captions()
    used = {name for caption in captions for name in _names(caption)}
    for name in sorted(_names(board.scene) - used):
        yield CheckFinding("unused tag", f"[{name}] is introduced in the global caption, but no shot names it")


def shot_count(board: Storyboard, _: Timeline) -> Iterator[CheckFinding]:
    """A number of shots in the global caption that is not theirs. The model was trained to read it."""
    for said in COUNT.findall(board.scene):
        number = NUMBERS.index(said.lower()) if said.lower() in NUMBERS else int(said) if said.isdecimal() else None
        if number not in {None, board.shot_count}:
            yield CheckFinding(
                "shot count", f"the global caption says 'contains {said} shots', but there are {board.shot_count}"
            )


def alike(board: Storyboard, _: Timeline) -> Iterator[CheckFinding]:
    """Two captions of nearly the same words: two shots of nearly the same picture."""
    captions = list(enumerate(board.shot_captions(), start=1))
    for (one, first), (other, second) in combinations(captions, 2):
        share = likeness(first, second)
        if share >= ALIKE:
            said = "are the same" if share == 1 else f"share {share:.0%} of their words"
            unseen = "; the cut between them may not be seen" if other == one + 1 else ""
            yield CheckFinding("alike", f"the captions of shots {one} and {other} {said}{unseen}", (one, other))


def likeness(one: str, other: str) -> float:
    """How much of their words two captions share, 0 to 1, in whatever order; 0 if they name other people."""
    if _names(one) != _names(other):
        return 0.0
    words, others = (Counter(WORD.findall(text.casefold())) for text in (one, other))
    total = words.total() + others.total()
    return 2 * (words & others).total() / total if total else float(one == other)


def short_shots(_: Storyboard, timeline: Timeline) -> Iterator[CheckFinding]:
    """Shots of a single latent frame, in which nothing can move."""
    for number, (first, end) in enumerate(timeline.shot_frames, start=1):
        enough = MOVES * FRAMES_PER_LATENT - (3 if first == 0 else 0)  # the first latent frame holds one frame
        if end - first < enough:
            frames = "1 frame" if end - first == 1 else f"{end - first} frames"
            yield CheckFinding(
                "short shot",
                f"shot {number} has {frames}, one latent frame: hardly more than a still picture; "
                f"give it {enough} frames or more",
                (number,),
            )


def long_shots(_: Storyboard, timeline: Timeline) -> Iterator[CheckFinding]:
    """Shots, or a whole video, longer than anything the model was trained on."""
    for number, (first, end) in enumerate(timeline.shot_frames, start=1):
        if end - first > TRAINED_FRAMES:
            yield CheckFinding(
                "long shot",
                f"shot {number} has {end - first} frames, more than the model was trained on in a whole video "
                f"({TRAINED_FRAMES})",
                (number,),
            )
    if timeline.num_frames > TRAINED_FRAMES:
        yield CheckFinding(
            "long video",
            f"{timeline.num_frames} frames are longer than the model was trained for ({TRAINED_FRAMES} frames)",
        )


def long_text(board: Storyboard) -> Iterator[CheckFinding]:
    """A text that is probably too long, where nothing counts its tokens."""
    words = count_words(board)
    if words > MANY_WORDS:
        yield CheckFinding(
            "long text",
            f"about {words} words: the model reads {TEXT_ROWS} tokens, and over {MANY_WORDS} words are often more; "
            "count them with --model or --tokenizer",
        )


def count_words(board: Storyboard) -> int:
    """About how many words the whole prompt has."""
    return len(WORD.findall(board.prompt))


RULES: tuple[Callable[[Storyboard, Timeline], Iterator[CheckFinding]], ...] = (
    numbered,
    unknown_names,
    unused_names,
    shot_count,
    alike,
    short_shots,
    long_shots,
)


def _names(text: str) -> set[str]:
    return set(NAME.findall(text))


def _shots(numbers: list[int]) -> str:
    """For example ``shot 2``, or ``shots 2, 3 and 5``."""
    *most, last = map(str, numbers)
    return f"shots {', '.join(most)} and {last}" if most else f"shot {last}"
