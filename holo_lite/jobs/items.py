"""The items of a batch, and what is told of each."""

from __future__ import annotations

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
    """The video of an item is begun, the `number`-th of `total` to make."""

    item: BatchItem
    number: int
    total: int


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
