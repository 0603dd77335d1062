"""What goes wrong in a process that is started with this folder on its path: HOLO_LITE_FAULT names it.

oom:7       the seventh attention of that process runs out of memory, once
broken:7    the seventh fails as no run should
unheld:     there is never room to hold a shot's inputs
"""

import builtins
import os
import sys

FAULT, _, TURN = os.environ.get("HOLO_LITE_FAULT", "").partition(":")


def spoil(equations):
    """Have an attention fail."""
    import torch

    plain, counted = equations.attention, [0]

    def attention(q, k, v):
        counted[0] += 1
        if counted[0] == int(TURN):
            kinds = {
                "oom": torch.OutOfMemoryError("CUDA out of memory. Tried"),
                "broken": ValueError("a bug of ours"),
            }
            raise kinds[FAULT]
        return plain(q, k, v)

    equations.attention = attention


def fill():
    """Leave no room for a shot's inputs."""
    import torch

    from holo_lite.model.held_inputs import HeldInputs

    def refused(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried")

    HeldInputs.__init__ = refused


def watched(*given, **named):
    """Import, and spoil the equations once they are there, before anybody takes them from there."""
    found = importing(*given, **named)
    module = sys.modules.get("holo_lite.model.equations")
    if builtins.__import__ is watched and module is not None and hasattr(module, "guide"):
        builtins.__import__ = importing  # other imports may be under way that began with this one
        fill() if FAULT == "unheld" else spoil(module)
    return found


if FAULT and "holo_lite.following" in " ".join(sys.orig_argv):
    importing = builtins.__import__
    builtins.__import__ = watched
