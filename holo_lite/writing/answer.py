"""What a language model answered: data, never followed. Read by a schema, within bounds, or refused in one line.

What is refused goes back to the model, so the lines here speak to it as much as to a person.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any

import msgspec

from holo_lite.story.prompt import clean
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.writing.lengths import fewest_frames, shot_frames
from holo_lite.writing.wanted import Wanted

LONGEST_ANSWER = 2**16  # characters
LONGEST_SCENE, LONGEST_CAPTION, LONGEST_TITLE = 2000, 1000, 120  # characters
MOST_SHOTS = 64  # more than are ever asked for: how many there should be is said where it is known
LONGEST_SHOT = 3600.0  # seconds
REFUSED = {"Cc", "Cf", "Cs"}  # control characters, invisible ones, halves of characters
JOINERS = "\u200c\u200d"  # invisible, but some scripts and signs are written with them
THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)

Scene = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_SCENE)]
Caption = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_CAPTION)]
Title = Annotated[str, msgspec.Meta(max_length=LONGEST_TITLE)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=LONGEST_SHOT)]


class AnswerShot(msgspec.Struct, frozen=True):
    """A shot as it is answered; `seconds` says how long it is beside the others."""

    caption: Caption
    seconds: Seconds | None = None


class Answer(msgspec.Struct, frozen=True, rename={"scene": "global"}):
    """A storyboard as it is answered. Keys that are not known are dropped."""

    scene: Scene
    shots: Annotated[tuple[AnswerShot, ...], msgspec.Meta(min_length=1, max_length=MOST_SHOTS)]
    title: Title = ""


def form(wanted: Wanted) -> dict[str, Any]:
    """The form of an answer, for an endpoint that keeps its model to a JSON schema."""
    shot = _table(caption={"type": "string"}, seconds={"type": "number"})
    shots = {"type": "array", "items": shot, "minItems": wanted.shots, "maxItems": wanted.shots}
    schema = _table(title={"type": "string"}, shots=shots, **{"global": {"type": "string"}})
    return {"type": "json_schema", "json_schema": {"name": "storyboard", "strict": True, "schema": schema}}


def read_answer(text: str) -> Answer:
    """Read an answer: the JSON object in it, whatever a model writes around that. Raises `ValueError`."""
    try:
        found = msgspec.json.decode(_object_in(text), type=Answer)
    except RecursionError:
        raise ValueError("the answer is nested too deeply") from None
    except msgspec.DecodeError as error:
        raise ValueError(f"the answer is not the JSON that was asked for: {error}") from None
    for name, said in (("title", found.title), ("global", found.scene), *_captions(found)):
        _check_characters(name, said)
    return found


def as_storyboard(answer: Answer, wanted: Wanted) -> Storyboard:
    """The storyboard of an answer, as long as it is wanted, or as it must be. Raises `StoryboardError`."""
    frames = max(wanted.frames, fewest_frames(len(answer.shots)))
    known = [shot.seconds for shot in answer.shots if shot.seconds is not None]
    usual = sum(known) / len(known) if known else 1.0
    lengths = shot_frames(frames, [usual if shot.seconds is None else shot.seconds for shot in answer.shots])
    shots = zip(answer.shots, lengths, strict=True)
    return Storyboard(
        global_caption=_one_line(answer.scene),
        shots=tuple(Shot(_one_line(shot.caption), frames=length) for shot, length in shots),
        title=_one_line(answer.title) or None,
    )


def as_text(answer: Answer) -> str:
    """The answer as JSON on one line, to be shown to its model again."""
    return msgspec.json.encode(answer).decode()


def _table(**properties: Any) -> dict[str, Any]:
    """A table of a schema, with these keys and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _object_in(text: str) -> str:
    """From the first brace to the last, without what a model thought before."""
    text = THOUGHT.sub("", text)
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise ValueError("the answer holds no JSON object")
    return text[start : end + 1]


def _captions(answer: Answer) -> list[tuple[str, str]]:
    return [(f"the caption of shot {number}", shot.caption) for number, shot in enumerate(answer.shots, start=1)]


def _check_characters(name: str, text: str) -> None:
    """Raise `ValueError` for a character that nobody sees, also one that is only there once the text is cleaned."""
    for character in text + clean(text):
        if unicodedata.category(character) in REFUSED and character not in f"\t\r\n{JOINERS}":
            raise ValueError(f"{name} holds the character U+{ord(character):04X}, which nobody sees; leave it out")


def _one_line(text: str) -> str:
    return " ".join(text.split())
