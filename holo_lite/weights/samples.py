"""Enough of a large file's data to distinguish it from another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

SAMPLES = 16  # places at which a file's data is sampled for its fingerprint
SAMPLE_BYTES = 65_536


def samples(path: Path) -> Iterator[bytes]:
    """Yield sixteen pieces of a file, spread evenly from its beginning to its end."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for index in range(SAMPLES):
            file.seek(max(0, size - SAMPLE_BYTES) * index // (SAMPLES - 1))
            yield file.read(SAMPLE_BYTES)
