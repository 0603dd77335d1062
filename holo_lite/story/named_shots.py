"""A shot of a video, as a person names it: ``old.mp4#2``, ``old.mp4#m1`` of its memory, or ``old.mp4`` alone."""

from __future__ import annotations

import re
from dataclasses import dataclass

from holo_lite.errors import StoryboardError

NAMED = re.compile(r"(?P<video>.+\.mp4)(?:#(?P<memory>m?)(?P<number>\d{1,6}))?", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class NamedShot:
    """A video's path and the number of a shot, from 1: one it shows, or with `is_memory` one it was made with."""

    video: str
    number: int
    is_memory: bool = False

    @classmethod
    def of(cls, text: str) -> NamedShot:
        """Read a name. Raises `StoryboardError` for another form."""
        found = NAMED.fullmatch(text.strip())
        if found is None:
            raise StoryboardError(f"{text!r}: name a video and its shot, such as old.mp4#2")
        return cls(found["video"], int(found["number"] or 1), bool(found["memory"]))

    def place(self, memory: int, shown: int) -> int:
        """The shot's place in a clip, from 0, with `memory` shots that are not shown before the `shown` ones.

        Raises `StoryboardError` where there is none.
        """
        most, kind = (memory, "shots that it does not show") if self.is_memory else (shown, "shots")
        if not 1 <= self.number <= most:
            raise StoryboardError(f"{self}: {self.video} has {most or 'no'} {kind}")
        return self.number - 1 if self.is_memory else memory + self.number - 1

    def __str__(self) -> str:
        return f"{self.video}#{'m' if self.is_memory else ''}{self.number}"
