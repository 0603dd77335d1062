"""How long a node waits before it looks again whether somebody has interrupted."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

Record = dict[str, Any]
Check = Callable[[], object]  # raises what ends a wait
ASK = 0.05  # seconds


def next_of(heard: queue.Queue[Record]) -> Record | None:
    """The next record; None: there was none within a moment."""
    try:
        return heard.get(timeout=ASK)
    except queue.Empty:
        return None
