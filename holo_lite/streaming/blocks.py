"""The blocks of one module, streamed round and round.

For a network that is run a number of times not known in advance: the text encoder, once per prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle

import torch
from torch import nn

from holo_lite.cancel import Cancel
from holo_lite.streaming.disk import Witness, nobody
from holo_lite.streaming.hooks import StreamHook, hook, unhook
from holo_lite.streaming.image import BlockImage, largest
from holo_lite.streaming.lane import Buffer
from holo_lite.streaming.lanes import lane_for
from holo_lite.streaming.streamer import Streamer


class BlockStream:
    """Hooks on a module's blocks, and the streamer that serves them. `close` it when the module is done with.

    `witness` is shown what is read. Once somebody has cancelled by the token `cancel`, no block's forward begins:
    it raises `Cancelled`. Raises `PinError` if `pinned` memory is refused, and what the device says when it has no
    memory left.
    """

    def __init__(
        self,
        blocks: Iterable[nn.Module],
        images: Sequence[BlockImage],
        *,
        dtype: torch.dtype,
        device: torch.device,
        slots: int = 2,
        ring: int = 2,
        pinned: bool = True,
        cancel: Cancel | None = None,
        witness: Witness = nobody,
    ) -> None:
        self._blocks = list(blocks)
        self._lane = lane_for(device)
        size = largest(images)
        self._ring: list[Buffer] = []
        try:
            for _ in range(ring):
                self._ring.append(self._lane.host_buffer(size, pinned=pinned))
            device_slots = [self._lane.device_buffer(size) for _ in range(slots)]
        except BaseException:
            self._free()
            raise
        self._streamer: Streamer[int] = Streamer(
            cycle(range(len(images))),
            dict(enumerate(images)),
            self._lane,
            slots=device_slots,
            ring=self._ring,
            cancel=cancel,
            witness=witness,
        )
        for index, block in enumerate(self._blocks):
            hook(block, StreamHook(self._streamer, index, dtype, gate=self._lane.keep_pace))

    def close(self) -> None:
        """Take the hooks off and give the memory back."""
        for block in self._blocks:
            unhook(block)
        self._streamer.close()
        self._free()

    def _free(self) -> None:
        for buffer in self._ring:
            self._lane.free_host(buffer)
