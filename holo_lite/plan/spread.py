"""Which blocks stay on the device when only some can."""

from __future__ import annotations


def evenly(count: int, total: int) -> tuple[int, ...]:
    """Choose `count` of `total` places, ascending, with gaps that differ by at most one.

    Blocks that stay give those that stream time to arrive, so they are spread over the whole depth.
    """
    assert 0 <= count <= total, f"{count} of {total}"
    return tuple((2 * place + 1) * total // (2 * count) for place in range(count))
