"""Types of a record's fields that say more than Python's own: they are checked when it is read (`records`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

Natural = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
if TYPE_CHECKING:
    FileName = str | Path  # in a record it is written and read as text
else:
    FileName = str
