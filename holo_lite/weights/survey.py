"""What lies in a folder of models, to a stated depth.

Hidden files and folders are passed over, and so are converted models that live in the folder: each is a whole model
of its own, whose parts belong to no other. Links are followed; no folder is entered twice.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from holo_lite.weights.manifest import FILE_NAME, JOURNAL

DEPTH = 4  # folders below the one that is given, enough for what hubs and other tools make


@dataclass(frozen=True)
class Survey:
    """The files and folders below `root`, nearest first, and the converted models that were passed over."""

    root: Path
    found: tuple[Path, ...]
    models: tuple[Path, ...]

    def depth(self, path: Path) -> int:
        """How many folders lie between `root` and a path."""
        return len(path.relative_to(self.root).parts) - 1

    def shown(self, path: Path) -> str:
        """A path as a person is told it: within `root`."""
        return path.relative_to(self.root).as_posix()

    def within(self, folder: Path) -> Survey:
        """What lies below one of its folders."""
        inside = tuple(path for path in self.found if folder in path.parents)
        return Survey(folder, inside, tuple(model for model in self.models if folder in model.parents))


def survey(root: Path) -> Survey:
    """Look through a folder. What cannot be read is passed over."""
    found: list[Path] = []
    models: list[Path] = []
    seen: set[tuple[int, int]] = set()
    level = [root]
    for depth in range(DEPTH + 1):
        below = [path for folder in level if _enter(folder, seen) for path in _entries(folder)]
        models += [path for path in below if _is_model(path)]
        found += (kept := [path for path in below if path not in models])
        level = [path for path in kept if depth < DEPTH and path.is_dir()]
    return Survey(root, tuple(found), tuple(models))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def _enter(folder: Path, seen: set[tuple[int, int]]) -> bool:
    """Whether a folder, by whatever name, is entered for the first time."""
    try:
        place = os.stat(folder)
    except OSError:
        return False
    known = (place.st_dev, place.st_ino) in seen
    seen.add((place.st_dev, place.st_ino))
    return not known


def _is_model(path: Path) -> bool:
    return (path / FILE_NAME).is_file() or (path / JOURNAL).is_file()
