"""Names that a file cannot have on every system."""

from __future__ import annotations

import re

DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE | re.DOTALL)


def is_device(name: str) -> bool:
    """Whether Windows takes a file's name for a device, such as a printer, whatever ending it has."""
    return DEVICE.fullmatch(name.strip()) is not None
