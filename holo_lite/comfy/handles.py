"""What nodes hand to each other along their wires. None of it holds a weight or a pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import HoloError

Tree = dict[str, Any]


class NodeError(HoloError):
    """What a person sees on a red node, on one line."""


@dataclass(frozen=True)
class Model:
    """A model, and how it is opened.

    folder: None is the built-in one. opening: as in an order. idle: seconds for which it stays open. mark: changes
    when its files do.
    """

    folder: str | None = None
    opening: Mapping[str, Any] = field(default_factory=dict)
    idle: int = 120
    mark: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture that the model sees, as a file. shot: the one that begins with it; None: it is a reference."""

    file: Path
    shot: int | None = None
    caption: str = ""


@dataclass(frozen=True)
class Story:
    """A storyboard as the tree that a file of one holds. Its pictures are named by absolute paths."""

    tree: Tree


@dataclass(frozen=True)
class Film:
    """A finished video, the model that made it, and the seed that it was made with."""

    video: Path
    model: Model
    seed: int = 0
