"""What the name of an adapter says against the use that it is put to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from holo_lite.config import Expert
from holo_lite.weights.file_names import traits

OTHER_MODELS = re.compile(r"i2v|flf2v|s2v|vace|animate|(?<![\d.])5b|(?<!\d)1[._]3b")


def name_notes(path: Path, expert: Expert) -> Iterator[str]:
    """Say what speaks against an adapter for an expert: a name of the other expert, or of another model."""
    noise = traits((path.stem,)).noise
    if noise not in {None, expert}:
        yield f"{path.name} is given for the {_noise(expert)} expert, but its name says {_noise(str(noise))}"
    if other := OTHER_MODELS.search(path.stem.lower()):
        yield f"{path.name}: its name says {other[0]}, so it was trained for another model than this one for text"


def _noise(expert: str) -> str:
    return expert.replace("_", "-")
