"""A storyboard that a language model writes, for the page: the same loop as `holo-lite write`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from holo_lite.cancel import Cancel, Cancelled
from holo_lite.errors import SettingsError, WritingError
from holo_lite.story.storyboard import Storyboard
from holo_lite.text.windows import PromptTokenizer
from holo_lite.writing.endpoint import Endpoint
from holo_lite.writing.events import StoryboardWritten
from holo_lite.writing.writing import write_storyboard


def written_board(
    said: Mapping[str, Any], endpoint: Endpoint, tokenizer: PromptTokenizer | None, cancel: Cancel
) -> Storyboard:
    """The storyboard of an idea, as a page asks for it. Raises `SettingsError` and `WritingError`."""
    idea, shots, seconds = said.get("idea"), said.get("shots", 5), said.get("seconds", 15.0)
    if not isinstance(idea, str):
        raise SettingsError("idea: write what happens in a sentence or two")
    try:
        with closing(write_storyboard(idea, shots, seconds, endpoint, tokenizer, cancel)) as events:
            for event in events:
                if isinstance(event, StoryboardWritten):
                    return event.board
    except Cancelled:
        raise WritingError("the page was closed while a storyboard was written") from None
    raise AssertionError("it ends with a storyboard, or raises")
