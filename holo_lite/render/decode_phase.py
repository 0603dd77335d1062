"""Decoding under a plan: whole frames where they fit, else tiles, and smaller ones where memory runs out.

Frames go to their sink as they are decoded; the clip need never be in memory as pixels. With a smaller tile
decoding starts again: other tiles give slightly different frames, and in a clip with both kinds
the change would be visible.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from holo_lite.cancel import Cancel
from holo_lite.errors import RoomError
from holo_lite.events import Event, FrameDone, PhaseStarted
from holo_lite.film.tiling import Tile, stride_of, tiles_of
from holo_lite.film.vae import decode_frames, load_vae, to_uint8
from holo_lite.film.vae_tiles import decode_frames_tiled
from holo_lite.plan.ladder import Shortage, smaller_tile
from holo_lite.plan.plan import Plan, plan_record
from holo_lite.render.retry import KeepPlan, OomRetry
from holo_lite.render.sinks import FrameSink
from holo_lite.settings import RunSettings

HOST = torch.device("cpu")


@dataclass(frozen=True)
class FrameDecoder:
    """The VAE's file and how it is computed. `keep` is told of every smaller plan."""

    vae: Path
    dtype: torch.dtype
    device: torch.device
    keep: KeepPlan = lambda _: None
    cancel: Cancel = field(default_factory=Cancel)  # asked between frames
    settle: Callable[[], None] = lambda: None  # raises if the weights are not those that were hashed

    def run(
        self, settings: RunSettings, latents: Tensor, plan: Plan, sink: FrameSink
    ) -> Generator[Event, None, RunSettings]:
        """Decode latents (16, F, h, w) into a sink. Returns the settings with the plan that did it.

        Raises `RoomError` when memory runs out with the smallest tiles, what the sink raises, and `Cancelled`
        before the next frame.
        """
        retry = OomRetry(self.device, partial(_one_down, latents), self.keep)
        while True:
            settings = dataclasses.replace(settings, plan=plan_record(plan))
            self.cancel.check()
            with retry:
                yield from self._attempt(settings, latents, plan.tile, sink)
                return settings
            yield (down := retry.down(plan, "decode"))
            plan = down.plan

    def _attempt(
        self, settings: RunSettings, latents: Tensor, tile: Tile | None, sink: FrameSink
    ) -> Generator[Event, None, None]:
        """Decode all frames, from the first on. The phase begins after loading, which takes seconds."""
        frames = self.frames(latents, tile)
        shown = islice(frames, settings.hidden_frames, None)  # the memory is decoded, for what follows needs it
        yield PhaseStarted("decode", settings.shown.num_frames)
        with sink.begin(settings) as add:
            for index, frame in enumerate(shown):
                pixels = to_uint8(frame)
                add(index, pixels)
                yield FrameDone(index, pixels)
                self.cancel.check()
            self.settle()  # weights are read from the disk up to the last frame

    def frames(self, latents: Tensor, tile: Tile | None) -> Iterator[Tensor]:
        """Load the decoder; then frames (3, H, W) are decoded as they are asked for, whole or in tiles."""
        vae = load_vae(self.vae, dtype=self.dtype, device=self.device)
        if tile is None:
            return decode_frames(vae, latents)
        return decode_frames_tiled(vae, latents, tile=tile, stride=stride_of(tile), cache_device=HOST)


def _one_down(latents: Tensor, plan: Plan, _: Shortage) -> tuple[Plan, str]:
    tile = smaller_tile(plan.tile, (latents.shape[2], latents.shape[3]))
    if tile is None:
        raise RoomError("memory ran out while decoding in the smallest tiles; close other programs and try again")
    return dataclasses.replace(plan, tile=tile), tiles_of(tile)
