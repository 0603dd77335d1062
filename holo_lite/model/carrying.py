"""Where every shot goes through all three layers of a block before the next shot does.

Then what adds to the stream can make the next layer's input, too, which would else read the stream again. That lies
where self-attention's input of the shot is held, which is of no use by then. In exchange keys and values, those of
the text, and all layers' weights are there at once.

It wins where the sum takes a pass of its own over memory. In int8 the product adds by itself. In bf16 most weights
are unpacked for a layer's visit, and those of three layers take more than is won. So it is done in fp8. Integers
only, as in `clip`: the planner asks, too.
"""

from __future__ import annotations

from holo_lite.eightbit.limits import LinearMode, unfit
from holo_lite.model.clip import Clip


def is_carried(clip: Clip, linear: LinearMode, dim: int, inner: int) -> bool:
    """Whether it is so in a clip, with products in a format, of a block so wide.

    A clip that ranks share goes layer by layer: they meet in self-attention, and would wait for each other longer.
    """
    fits = linear == "fp8" and unfit(linear, dim, dim) is None and unfit(linear, inner, dim) is None
    return fits and clip.chunks.holding and clip.share is None
