"""Numbers as people read them."""

from __future__ import annotations


def bytes_text(count: float) -> str:
    """A size in decimal units, as disks are sold: ``7.73 GB``, ``512.00 kB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:.0f} bytes"


def memory_text(count: float) -> str:
    """A size of memory in binary units, as cards and main memory are sold: ``24.00 GiB``, ``512.00 MiB``."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(count) >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:.0f} bytes"


def count_text(count: float) -> str:
    """A number of things: ``14.29 billion``, ``3.20 million``, ``512``."""
    for unit, size in (("billion", 1e9), ("million", 1e6), ("thousand", 1e3)):
        if abs(count) >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:.0f}"


def duration_text(seconds: float) -> str:
    """``0:42``, ``3:12:08``, or in days from two days on."""
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.1f} days"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
