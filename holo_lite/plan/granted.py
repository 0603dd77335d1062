"""What a card gives for a buffer that stays: whole segments.

PyTorch's allocator takes memory for a buffer of 10 MiB or more in multiples of 2 MiB, and what is left of the last
one serves little else: for forty blocks that is some 40 MiB. `benchmarks.allocator` runs plans against a model of
it.
"""

from __future__ import annotations

from holo_lite.plan.profile import MIB, Device

LARGE, SEGMENT = 10 * MIB, 2 * MIB


def granted(nbytes: int, device: Device) -> int:
    """Bytes that a buffer takes there."""
    return nbytes if device == "cpu" or nbytes < LARGE else -(-nbytes // SEGMENT) * SEGMENT
