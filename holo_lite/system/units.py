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


def span_text(seconds: float) -> str:
    """About how long, as people say it: ``42 s``, ``12 min``, ``1 h 29 min``, ``2 days 3 h``."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 59.5:
        return f"{max(seconds, 1):.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    return f"{hours // 24} days {hours % 24} h" if hours % 24 else f"{hours // 24} days"


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
