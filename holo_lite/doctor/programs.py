"""Programs of the system, found without running anything of the current folder."""

from __future__ import annotations

import shutil
from pathlib import Path


def program(name: str) -> str | None:
    """Where a program is; None if it is nowhere, or in the current folder, where Windows looks first."""
    found = shutil.which(name)
    if found is None or not Path(found).is_absolute():
        return None
    return found if Path(found).parent.resolve() != Path.cwd().resolve() else None
