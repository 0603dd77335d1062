"""What became of the storyboards of a batch, in lines."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from holo_lite.jobs.items import BatchItem, ItemEnded
from holo_lite.system.units import duration_text

WORDS = {"done": "done", "there": "kept", "other": "different", "failed": "failed"}


def summary(items: Sequence[BatchItem], ended: Sequence[ItemEnded]) -> Iterator[str]:
    """A line for each storyboard, in the order given, and how many there are of each kind."""
    by_item = {each.item: each for each in ended}
    yield from (line(by_item[item]) if item in by_item else f"{'not begun':10}  {item.video}" for item in items)
    counts = {word: sum(each.state == state for each in ended) for state, word in WORDS.items()}
    said = [f"{count} {word}" for word, count in counts.items() if count]
    if len(ended) < len(items):
        said.append(f"{len(items) - len(ended)} not begun or interrupted")
    yield ", ".join(said)


def line(ended: ItemEnded) -> str:
    """The result of one: its video, unless an error names it or its storyboard."""
    why = ended.why or f"in {duration_text(ended.seconds)}"
    files = (ended.item.storyboard, ended.item.video)
    named = why.startswith(tuple(f"{file}:" for file in (*files, *map(os.path.abspath, files))))
    subject = "" if named else f"{ended.item.video}  "
    return f"{WORDS[ended.state]:10}  {subject}{why}"
