"""The items of a batch, and what is told of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["done", "there", "other", "failed"]


@dataclass(frozen=True)
class BatchItem:
    """A storyboard's file, and the video to make of it."""

    storyboard: Path
    video: Path


@dataclass(frozen=True)
class ItemStarted:
    """The video of an item is begun, the `number`-th of `total` to make.

    `share` is its part of the work of all of them, `rest` the part of those that come after it, as their plans have
    it; both are 0 where that is not known.
    """

    item: BatchItem
    number: int
    total: int
    share: float = 0.0
    rest: float = 0.0


@dataclass(frozen=True)
class ItemEnded:
    """The result of an item, and why.

    done: made in `seconds`; there: kept, because it is the video that would be made; other: kept, although it is
    a different one; failed.
    """

    item: BatchItem
    state: State
    why: str = ""
    seconds: float = 0.0


def items_started(items: Sequence[BatchItem], work: Sequence[float]) -> Iterator[ItemStarted]:
    """What is reported as each item begins, from how much work each of them is, in any unit."""
    left = total = sum(work)
    for number, (item, own) in enumerate(zip(items, work, strict=True), start=1):
        left -= own
        yield ItemStarted(item, number, len(items), own / total, left / total)
