"""What goes to and fro between here and a language model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from holo_lite.errors import WritingError

Message = Mapping[str, str]  # role and content


@dataclass(frozen=True)
class Piece:
    """What has come of an answer now. `is_thought`: it is what the model thinks before it answers."""

    text: str
    is_thought: bool = False


class UnknownFormError(WritingError):
    """The endpoint may not know how to keep an answer to a form; the same question without one may be answered."""
