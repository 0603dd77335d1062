"""What self-attention reads of one shot, made once: keys and values come of it, and then, chunk by chunk, queries.

Where there is no room for it the same is made twice, to the bit.
"""

from __future__ import annotations

from torch import Tensor

from holo_lite.eightbit.rows import Format, Rows
from holo_lite.model.operations import LinearInput

ALIGNED = 4  # scales: a card's product may want those of its first row at a multiple of 16 bytes


class HeldInputs:
    """Memory for the input of `rows` tokens, (rows, d) or in a format of 8 bits. `like`: a stream."""

    def __init__(self, rows: int, form: Format | None, like: Tensor) -> None:
        width = like.shape[1]
        self._rows: LinearInput = (
            like.new_empty(rows, width)
            if form is None
            else Rows.empty(rows, width, form, dtype=like.dtype, device=like.device)
        )
        self._tokens = range(0)

    def begin(self, tokens: range) -> None:
        """From here on hold the input of these tokens, which is to be written into their places."""
        self._tokens = tokens

    def has(self, tokens: slice) -> bool:
        """Whether the input of these tokens is held."""
        return bool(self._tokens.start <= tokens.start and tokens.stop <= self._tokens.stop)

    def place(self, tokens: slice) -> LinearInput:
        """The memory of these tokens."""
        first = self._tokens.start
        return self._rows[tokens.start - first : tokens.stop - first]

    def input(self, tokens: slice) -> LinearInput:
        """What is held of these tokens, as a product takes it."""
        found = self.place(tokens)
        if isinstance(found, Rows) and found.scale.storage_offset() % ALIGNED:
            return Rows(found.format, found.codes, found.scale.clone(), found.dtype)
        return found
