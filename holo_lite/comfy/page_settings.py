"""What a person has set on ComfyUI's page, in its settings under HoloCine (web/settings.js).

Whoever reaches that page can set it, and it names a program that is then run. So it may name none that the page can
bring here itself: none on a network, and none in the folders that pages write to.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import folder_paths

from .folders import NETWORK
from .handles import NodeError

PYTHON = "HoloCine.Python"
FILE = ("default", "comfy.settings.json")
WHERE = "Python in ComfyUI's settings, under HoloCine"


def python_on_page() -> str:
    """The interpreter that is named there; nothing: none. Raises `NodeError` for one that a page must not name."""
    said = _settings().get(PYTHON)
    named = said.strip() if isinstance(said, str) else ""
    if named:
        _check(named)
    return named


def _settings() -> dict[str, Any]:
    """ComfyUI's settings of the only person; with --multi-user nobody knows who asks, and there are none."""
    try:
        found = json.loads(Path(folder_paths.get_user_directory(), *FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _check(named: str) -> None:
    if NETWORK.match(named) or not os.path.isabs(named) or not named.isprintable():
        raise NodeError(f"{WHERE}, is {named!a:.80}: give the whole path of a Python on this machine")
    for folder in _written_by_pages():
        if any(place.is_relative_to(folder) for place in (Path(named).parent.resolve(), Path(named).resolve())):
            raise NodeError(f"{WHERE}, is in {folder}, where pages can put files; move it elsewhere")


def _written_by_pages() -> list[Path]:
    places = (
        folder_paths.get_input_directory(),
        folder_paths.get_output_directory(),
        folder_paths.get_temp_directory(),
        folder_paths.get_user_directory(),
        folder_paths.models_dir,
    )
    return [Path(each).resolve() for each in places]
