"""Whether a tokenizer is the one that a text encoder was trained with.

With another one every word becomes another, and nothing fails: the video is just of something else. So the
vocabulary must be as long as the encoder's table, but for the rows that fill it up, and umt5's must be umt5's own.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from tokenizers import Tokenizer

from holo_lite.errors import CheckpointError
from holo_lite.reading.files import read_bytes
from holo_lite.text.encoder_sizes import UMT5_XXL
from holo_lite.text.windows import open_tokenizer

RELEASED = "6e197b4d3dbd71da14b4eb255f4fa91c9c1f2068b20a2de2472967ca3d22602b"  # SHA-256 of umt5's tokenizer.json
UMT5_TOKENS = 256_300
UMT5_IDS = {"<pad>": 0, "</s>": 1, "<s>": 2, "<unk>": 3, "▁the": 312, "的": 431, "▁camera": 5823, "▁shot": 36215}
FILLED_UP = 128  # a table of rows is filled up to a multiple of so many
ADVICE = "use google/umt5-xxl/tokenizer.json from Wan-AI/Wan2.2-T2V-A14B"


def check_tokenizer(path: Path, rows: int) -> None:
    """Compare a tokenizer with the rows of a text encoder's embedding.

    Raises `CheckpointError` for a file that is missing, damaged, or of another vocabulary.
    """
    if rows == UMT5_XXL.vocabulary and _is_released(path):
        return
    tokenizer = open_tokenizer(path)
    size = tokenizer.get_vocab_size()
    if not rows - FILLED_UP < size <= rows:
        raise CheckpointError(
            f"{path}: is not the text encoder's tokenizer: it has {size} tokens, the encoder {rows} rows; {ADVICE}"
        )
    if rows == UMT5_XXL.vocabulary and not is_umt5(tokenizer):
        raise CheckpointError(f"{path}: is not the umt5 tokenizer: its words have other numbers; {ADVICE}")


def _is_released(path: Path) -> bool:
    """Whether this is the released file, to the byte; then nothing of its 17 MB need be understood."""
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest() == RELEASED
    except OSError:
        return False


def is_umt5(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer is umt5's, by its size and the numbers of some words."""
    known = all(tokenizer.token_to_id(word) == number for word, number in UMT5_IDS.items())
    return known and tokenizer.get_vocab_size() == UMT5_TOKENS
