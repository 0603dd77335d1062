"""Python's search for garbage, where a process of ours brings PyTorch in: many objects that stay."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bringing_torch() -> Iterator[None]:
    """Within, import what needs PyTorch: no garbage is looked for meanwhile, nor ever among what is there then.

    Only for a process that is ours, since all that it holds is taken to stay. Where PyTorch is there already,
    nothing changes.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
