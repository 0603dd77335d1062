"""holo-tiny itself: the trained weights that come with the package.

They lie in `weights/`, a converted model like any other; `training/` in the repository made them.
"""

from __future__ import annotations

from pathlib import Path

NAME = "holo-tiny"


def tiny_model() -> Path:
    """The folder of the built-in model."""
    return Path(__file__).parent / "weights"
