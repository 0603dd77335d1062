"""The error for files of a run that are torn or were changed."""

from __future__ import annotations

from pathlib import Path

from holo_lite.errors import RecordError, RunError


def damaged(path: Path, why: Exception | None = None) -> RunError:
    """The error for a file that is torn or was changed, and by what it was noticed."""
    noticed = f" ({why})" if isinstance(why, RecordError) else ""
    return RunError(
        f"{path}: is damaged, or was changed since it was written{noticed}; "
        f"remove the folder {path.parent} to start over"
    )
