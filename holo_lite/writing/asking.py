"""The words that are sent: how storyboards are written, the idea, the shots, an answer and what was found in it."""

from __future__ import annotations

from collections.abc import Sequence

from holo_lite.preflight.rules import MANY_WORDS
from holo_lite.writing.answer import Answer, as_text
from holo_lite.writing.talk import Message
from holo_lite.writing.wanted import Wanted

SCENE_SHARE = 0.3  # of all words, for what the shots share
LONGEST_CAPTION = 40  # words; more are seldom seen in a shot

RULES = """\
You write storyboards for a model that makes a short film of one scene, in several shots, without sound. It reads
English. It knows only what you write: every shot sees the global caption and its own caption, and no other shot's.

The global caption says what all shots share:
- each person or creature, introduced once by a tag: "[character1] is a man in his sixties with a trimmed grey beard
  and a yellow oilskin coat." Say age, hair and clothes with colours. The next ones are [character2], [character3].
- the place, the time of day, the light, the style of the picture.
It does not tell the story, and does not say how many shots there are.

Each shot's caption says what is seen in this shot alone:
- first its framing: "Wide shot of", "Medium shot of", "Close-up of", "Over-the-shoulder shot of";
- then one action that can be seen, of the people by their tags: "[character1] winds the brass clockwork";
- then what the camera does: "The camera moves slowly closer.", or that it stands still.
Shots that follow each other differ in framing or in what they show. Together they tell the story: how it begins,
what changes, how it ends. Do not number the shots. Write square brackets around tags only. Write no dialogue, no
sounds and no thoughts: they are not seen.

Answer with one JSON object and nothing else:
{"title": "…", "global": "…", "shots": [{"caption": "…", "seconds": 3}]}
"""
REMARKS = (
    "A check of this storyboard found what follows. Mend it, keep the rest, and answer with the whole JSON object."
)
UNREADABLE = "Your last answer could not be used: "


def first_question(wanted: Wanted, unusable: str = "") -> tuple[Message, ...]:
    """What is asked at first, and again where the answer could not be used."""
    again = f"\n\n{UNREADABLE}{unusable}" if unusable else ""
    return {"role": "system", "content": RULES}, {"role": "user", "content": f"{_order(wanted)}{again}"}


def next_question(wanted: Wanted, answer: Answer, found: Sequence[str]) -> tuple[Message, ...]:
    """What is asked with what was found in an answer."""
    remarks = "\n".join((REMARKS, *(f"- {line}" for line in found)))
    return (
        *first_question(wanted),
        {"role": "assistant", "content": as_text(answer)},
        {"role": "user", "content": remarks},
    )


def _order(wanted: Wanted) -> str:
    scene = int(MANY_WORDS * SCENE_SHARE)
    caption = min(LONGEST_CAPTION, (MANY_WORDS - scene) // wanted.shots)
    shots = "exactly 1 shot" if wanted.shots == 1 else f"exactly {wanted.shots} shots"
    return (
        f"The idea: {wanted.idea}\n\n"
        f"Write {shots}, {wanted.seconds:g} seconds in all; give each shot the seconds that it needs. "
        f"At most {scene} words in the global caption, and {caption} in each shot's."
    )
