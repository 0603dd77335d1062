"""What happens while a storyboard is written, in order: `Connecting`, then for each try `TryStarted`, pieces of the
answer, and `TryJudged`; at last `StoryboardWritten`. A `Note` may come between.
"""

from __future__ import annotations

from dataclasses import dataclass

from holo_lite.preflight.check import CheckReport
from holo_lite.progress import Note
from holo_lite.story.storyboard import Storyboard


@dataclass(frozen=True)
class Connecting:
    """To which address the idea, the wanted shots and what is found will be sent. Nothing has been sent yet."""

    route: str


@dataclass(frozen=True)
class TryStarted:
    """The endpoint's model is asked, for the `number`-th time of at most `most`."""

    number: int
    most: int
    llm: str


@dataclass(frozen=True)
class AnswerGrew:
    """A piece of the answer has come: text that anybody may have written. A thought is not part of the answer."""

    text: str
    is_thought: bool = False


@dataclass(frozen=True)
class TryJudged:
    """What was found in the answer of a try, one line each; nothing if nothing was."""

    number: int
    found: tuple[str, ...]


@dataclass(frozen=True)
class StoryboardWritten:
    """The storyboard, the report of its check, and what was found in it and remains."""

    board: Storyboard
    report: CheckReport
    found: tuple[str, ...]


WritingEvent = Connecting | TryStarted | AnswerGrew | TryJudged | Note | StoryboardWritten
