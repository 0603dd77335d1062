"""Decoding under a plan: whole frames where they fit, else tiles, and smaller ones where memory runs out.

Frames go to the video and to the contact sheet as they are decoded; the clip is never in memory as pixels, and
a frame is encoded while the next one is decoded.
With a smaller tile decoding starts over: other tiles give slightly different frames, and in a clip with both kinds
the change would be visible.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from holo_lite.errors import RoomError
from holo_lite.events import Event, Finished, FrameDone
from holo_lite.film.contact_sheet import ContactSheet
from holo_lite.film.vae import decode_frames, load_vae, to_uint8
from holo_lite.film.vae_tiles import decode_frames_tiled
from holo_lite.film.video import VideoWriter
from holo_lite.film.video_thread import encoding_behind
from holo_lite.plan.decoding import PIXELS, Tile, stride_of
from holo_lite.plan.fit import Plan, plan_record
from holo_lite.plan.ladder import Shortage, smaller_tile
from holo_lite.render.retry import OomRetry
from holo_lite.settings import RunSettings

HOST = torch.device("cpu")


@dataclass(frozen=True)
class Decoding:
    """What decoding needs in addition to latents."""

    vae: Path
    dtype: torch.dtype
    device: torch.device
    keep: Callable[[Plan], None] = lambda _: None  # told of every smaller plan
    finish: Callable[[], None] = lambda: None  # called once video and sheet are there

    def run(
        self, settings: RunSettings, latents: Tensor, plan: Plan, out: Path, sheet: Path
    ) -> Generator[Event, None, None]:
        """Decode latents (16, F, h, w) into an mp4 and a contact sheet.

        Raises `RoomError` when memory runs out with the smallest tiles, `OutputError` if a file cannot be written.
        """
        retry = OomRetry(self.device, partial(_one_down, latents), self.keep)
        attempt = partial(self._make, settings, latents, out, sheet)
        yield from retry.run(attempt, plan, lambda: "decode")

    def _make(
        self, settings: RunSettings, latents: Tensor, out: Path, sheet: Path, plan: Plan
    ) -> Generator[Event, None, None]:
        settings = dataclasses.replace(settings, plan=plan_record(plan))
        contacts = ContactSheet(settings.shot_frames, settings.storyboard.shot_captions(), fps=settings.fps)
        writer = VideoWriter(
            out, width=settings.width, height=settings.height, fps=settings.fps, metadata=settings.to_json()
        )
        with encoding_behind(writer) as video:
            for index, frame in enumerate(self._frames(latents, plan.tile)):
                pixels = to_uint8(frame)
                video.add(pixels)
                contacts.add(index, pixels)
                yield FrameDone(index, pixels)
        contacts.save(sheet)
        self.finish()
        yield Finished(out, sheet, settings)

    def _frames(self, latents: Tensor, tile: Tile | None) -> Iterator[Tensor]:
        vae = load_vae(self.vae, dtype=self.dtype, device=self.device)
        if tile is None:
            return decode_frames(vae, latents)
        return decode_frames_tiled(vae, latents, tile=tile, stride=stride_of(tile), cache_device=HOST)


def _one_down(latents: Tensor, plan: Plan, _: Shortage) -> tuple[Plan, str]:
    tile = smaller_tile(plan.tile, (latents.shape[2], latents.shape[3]))
    if tile is None:
        raise RoomError("memory ran out while decoding in the smallest tiles; close other programs and try again")
    size = f"{tile[1] * PIXELS}×{tile[0] * PIXELS}"
    return dataclasses.replace(plan, tile=tile), f"tiles of {size} pixels, blended where they overlap"
