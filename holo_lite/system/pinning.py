"""Where a system pins little memory, and counts what it pins as the card's.

Windows allows a part of the main memory, and with its driver model pinned memory and the card's own together do not
exceed the card's. Linux within Windows (WSL) has refused after one GiB or less. What is pinned there is taken from
the card that it is pinned for.
"""

from __future__ import annotations

import platform
import sys


def pinned_is_scarce() -> bool:
    """Whether this is such a system: Windows, or Linux within it."""
    return sys.platform == "win32" or is_wsl()


def is_wsl() -> bool:
    """Whether this is Linux within Windows, by the name of its kernel."""
    return "microsoft" in platform.release().lower()
