"""holo-tiny itself: the trained weights that come with the package.

They lie in `weights/`, a converted model like any other; `training/` in the repository made them.
"""

from __future__ import annotations

from pathlib import Path

NAME = "holo-tiny"


def is_name(model: str | Path) -> bool:
    """Whether the built-in model is meant, by its name. A folder of that name goes before it."""
    return str(model) == NAME and not Path(model).exists()


def tiny_model() -> Path:
    """The folder of the built-in model."""
    return Path(__file__).parent / "weights"
