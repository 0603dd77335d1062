"""What a person sees while a storyboard is written: where what is sent, the answer as it comes, what was found."""

from __future__ import annotations

import re

from holo_lite.progress import Note
from holo_lite.views.display import Display
from holo_lite.writing.events import (
    AnswerGrew,
    Connecting,
    StoryboardWritten,
    TryJudged,
    TryStarted,
    WritingEvent,
)

SPACES = re.compile(r"\s+")
SENT = "your idea, the wanted shots and length, and its own answer with what is found in it"
TAIL = 40  # characters of the answer that are shown as it comes
LONGEST_LINE = 300  # characters of what was found, which repeats what a model wrote


class WritingView:
    """Shows the events of one storyboard."""

    def __init__(self, view: Display) -> None:
        self._view = view
        self._pieces, self._tail = 0, ""

    def show(self, event: WritingEvent) -> None:
        """Show one event."""
        match event:
            case Connecting(route):
                self._view.say(f"sent to        {route}", unbroken=True)
                self._view.say(f"what is sent   {SENT}")
            case TryStarted(number, most, llm):
                self._pieces, self._tail = 0, ""
                self._view.begin(f"try {number} of {most}", subject=llm)
            case AnswerGrew():
                self._grow(event)
            case TryJudged(_, found):
                self._view.end()
                self._lines("found", found)
            case Note(text):
                self._view.say(f"note: {text}")
            case StoryboardWritten():
                self._view.end()
                self._lines("remains", event.found)

    def _grow(self, event: AnswerGrew) -> None:
        """A piece more, and the end of what there is. A comma would part the row there."""
        self._pieces += 1
        self._tail = SPACES.sub(" ", self._tail + event.text[-TAIL:])[-TAIL:]
        said = "thinking" if event.is_thought else self._tail.replace(",", "")
        self._view.advance(self._pieces, said)

    def _lines(self, word: str, found: tuple[str, ...]) -> None:
        for line in found:
            cut = line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 1]}…"
            self._view.say(f"{word:14} {cut}")
