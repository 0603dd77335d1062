"""The names of all schemes, for checking one before PyTorch is needed."""

from __future__ import annotations

from holo_lite.errors import SettingsError, nearest

NAMES = ("bf16", "int8", "nf4", "nf4-single", "qint8", "qint4", "qfloat8")


def check_scheme(name: str) -> str:
    """Give the name back. Raises `SettingsError`, with the nearest name, for an unknown one."""
    if name in NAMES:
        return name
    raise SettingsError(f"unknown scheme {name!a:.80}{nearest(name, NAMES)} (choose {', '.join(NAMES)})")
