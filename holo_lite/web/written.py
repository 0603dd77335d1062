"""A storyboard that a language model writes, for the page: the same loop as `holo-lite write`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from holo_lite.cancel import Cancel, Cancelled
from holo_lite.errors import SettingsError, WritingError
from holo_lite.progress import Note
from holo_lite.story.storyboard import Storyboard
from holo_lite.text.windows import PromptTokenizer
from holo_lite.worker.client import Record
from holo_lite.writing.endpoint import Endpoint
from holo_lite.writing.events import AnswerGrew, StoryboardWritten, TryJudged, TryStarted, WritingEvent
from holo_lite.writing.writing import write_storyboard

LONGEST = 300  # characters of what was found, which repeats what a model wrote
OFTEN = 200  # characters of an answer between two records


class WritingProgress:
    """How far a storyboard is, and what was found on the way, as a page shows it; every change is told whole."""

    def __init__(self, tell: Callable[[Record], None]) -> None:
        self._tell, self._grown = tell, 0
        self.record: Record = {"number": 0, "most": 0, "characters": 0, "over": False, "lines": []}

    def take(self, event: WritingEvent) -> None:
        """Take what happens."""
        match event:
            case TryStarted(number, most):
                self._grown = 0
                self._put(number=number, most=most, characters=0)
            case AnswerGrew(text):
                self._grown += len(text)
                if self._grown >= self.record["characters"] + OFTEN:
                    self._put(characters=self._grown)
            case TryJudged(_, found):
                self._put(lines=[*self.record["lines"], *self._lines("found", found)])
            case Note(text):
                self._put(lines=[*self.record["lines"], *self._lines("note", [text])])
            case StoryboardWritten():
                remains = self._lines("remains", event.found)
                texts = {each["text"] for each in remains}
                self._put(lines=[*(each for each in self.record["lines"] if each["text"] not in texts), *remains])

    def end(self) -> None:
        """It is over, one way or another."""
        self._put(over=True)

    def _put(self, **changed: Any) -> None:
        self.record = {**self.record, **changed}
        self._tell(self.record)

    def _lines(self, word: str, texts: Sequence[str]) -> list[Record]:
        cut = [text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…" for text in texts]
        return [{"word": word, "number": self.record["number"], "text": text} for text in cut]


def written_board(
    said: Mapping[str, Any],
    endpoint: Endpoint,
    tokenizer: PromptTokenizer | None,
    cancel: Cancel,
    progress: WritingProgress,
) -> Storyboard:
    """The storyboard of an idea, as a page asks for it. Raises `SettingsError` and `WritingError`."""
    idea, shots, seconds = said.get("idea"), said.get("shots", 5), said.get("seconds", 15.0)
    if not isinstance(idea, str):
        raise SettingsError("idea: write what happens in a sentence or two")
    try:
        with closing(write_storyboard(idea, shots, seconds, endpoint, tokenizer, cancel)) as events:
            for event in events:
                progress.take(event)
                if isinstance(event, StoryboardWritten):
                    return event.board
    except Cancelled:
        raise WritingError("the page was closed while a storyboard was written") from None
    finally:
        progress.end()
    raise AssertionError("it ends with a storyboard, or raises")
