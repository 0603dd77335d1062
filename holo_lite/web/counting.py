"""The tokenizer of the model that is chosen, read when it is first needed: a real one takes some 350 MB."""

from __future__ import annotations

from pathlib import Path

from holo_lite.errors import CheckpointError
from holo_lite.text.windows import PromptTokenizer
from holo_lite.tiny.model import tiny_model
from holo_lite.web.shelf import ShelfItem

PLACES = ("tokenizer.json", "google/umt5-xxl/tokenizer.json")  # in a converted model, and as released


class Vocabulary:
    """The tokenizer that was used last."""

    def __init__(self) -> None:
        self._kept: tuple[Path, PromptTokenizer] | None = None

    def of(self, model: ShelfItem) -> PromptTokenizer | None:
        """The tokenizer of a model; None where it has none that can be read: then tokens are not counted."""
        folder = model.path or tiny_model()
        file = next((folder / place for place in PLACES if (folder / place).is_file()), None)
        if file is None:
            return None
        if self._kept is None or self._kept[0] != file:
            try:
                self._kept = file, PromptTokenizer(file)
            except CheckpointError:
                return None
        return self._kept[1]
