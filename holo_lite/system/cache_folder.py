"""Where holo-lite keeps files of its own on a person's machine."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

CACHE_VARIABLE = "HOLO_LITE_CACHE"


def cache_folder() -> Path:
    """Return the folder of caches: ``$HOLO_LITE_CACHE``, or the system's place. It need not exist yet."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return expanded(chosen) if chosen else user_cache_path("holo-lite")


def expanded(path: str) -> Path:
    """A path with ``~`` replaced by the home folder; as it is if this computer does not know the user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
