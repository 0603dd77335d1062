"""The latents with which a run begins: noise, with what is given of the clip in its places.

Pictures and frames of videos are encoded first, before the text encoder is read: whole if the plan says so, and in
tiles, then in smaller ones, where memory runs out. With a smaller tile it begins again with the first picture, for
all that is given is encoded in one way. A run that goes on has what was given in its saved state, and what that
came from is not opened again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from holo_lite.cancel import Cancel
from holo_lite.config import PATCH
from holo_lite.directing.given import Encode, Frames, Given, Reading, passed_on
from holo_lite.errors import RoomError, RunError
from holo_lite.events import Event, PhaseAdvanced, PhaseStarted
from holo_lite.film.encode import encode_frames
from holo_lite.film.tiling import Tile, tiles_of
from holo_lite.film.vae_encoder import load_vae_encoder
from holo_lite.model.clip import Clip
from holo_lite.plan.ladder import Shortage, smaller_tile
from holo_lite.plan.plan import Plan
from holo_lite.render.job import Job
from holo_lite.render.retry import OomRetry
from holo_lite.runs.state import State
from holo_lite.sampling.frozen import FrozenLatents
from holo_lite.sampling.sampler import initial_noise
from holo_lite.story.shots import FRAMES_PER_LATENT

HOST = torch.device("cpu")


@dataclass(frozen=True)
class First:
    """What a run begins with: latents (16, F, h, w) fp32, what of them stays, and the plan, smaller if need was."""

    latents: Tensor
    frozen: FrozenLatents | None
    plan: Plan


@dataclass
class Tiles:
    """The tile in which frames of `size` (rows, columns of latents) are encoded; None: whole."""

    size: Tile
    tile: Tile | None

    def smaller(self, plan: Plan, _: Shortage) -> tuple[Plan, str]:
        """Take a smaller tile, of which the plan needs to know no more than that it was.

        Raises `RoomError` with the smallest.
        """
        self.tile = smaller_tile(self.tile, self.size)
        if self.tile is None:
            raise RoomError(
                "memory ran out while encoding pictures in the smallest tiles; close other programs and try again"
            )
        return plan, f"pictures encoded in {tiles_of(self.tile)}"


@dataclass(frozen=True)
class GivenReader:
    """The VAE's file and how its encoder is computed. Latents will be on `device`."""

    vae: Path
    dtype: torch.dtype
    device: torch.device

    def first(self, job: Job, before: State | None, settle: Callable[[], None]) -> Generator[Event, None, First]:
        """The latents of a run that begins, or goes on from a state, and what of them is frozen.

        `settle` raises if the VAE's weights are not those that were hashed. Raises `OutputError` for a file that is
        not what it was, `RunError` where a run that was interrupted before its first step has nothing to begin
        from, and `RoomError` where memory runs out with the smallest tiles.
        """
        noise = initial_noise(Clip(job.settings.layout), job.settings.seed).to(self.device)
        frames = job.frozen_frames
        if not frames:
            return First(before.latents.to(self.device) if before else noise, None, job.plan)
        if before:
            clean, plan = before.latents[:, list(frames)], job.plan
        else:
            clean, plan = yield from self._given(job, settle)
        frozen = FrozenLatents.of(frames, clean, noise, job.settings.frozen.kappa)
        return First(before.latents.to(self.device) if before else frozen.put_into(noise), frozen, plan)

    def _given(self, job: Job, settle: Callable[[], None]) -> Generator[Event, None, tuple[Tensor, Plan]]:
        if job.given is None:
            raise RunError(
                "the run was interrupted before its first step, and what it was to begin from is not kept with it; "
                "type the command that began it again"
            )
        if not job.given.pictures:
            return (yield from passed_on(job.given.latents(_nothing_to_encode), PhaseAdvanced)), job.plan
        layout, plan = job.settings.layout, job.plan
        tiles = Tiles((PATCH * layout.rows, PATCH * layout.columns), job.encoding.tile if job.encoding else None)
        retry = OomRetry(self.device, tiles.smaller)
        while True:
            with retry:
                return (yield from self._encoded(job.given, tiles.tile, settle, job.cancel)), plan
            yield (down := retry.down(plan, "encode"))
            plan = down.plan

    def _encoded(
        self, given: Given, tile: Tile | None, settle: Callable[[], None], cancel: Cancel
    ) -> Generator[Event, None, Tensor]:
        """Encode all that is given, from the first picture on."""
        yield PhaseStarted("load", 0, subject="the encoder")
        settle()
        encode = self._encoder(tile, cancel)
        yield PhaseStarted("encode", given.pictures)
        latents = yield from passed_on(given.latents(encode), PhaseAdvanced)
        settle()
        return latents

    def _encoder(self, tile: Tile | None, cancel: Cancel) -> Encode:
        """What encodes frames, with the weights read once."""
        encoder = load_vae_encoder(self.vae, dtype=self.dtype, device=self.device)

        def encode(frames: Frames) -> Reading:
            found = []
            for latent in encode_frames(encoder, frames, tile, cache_device=HOST, cancel=cancel):
                found.append(latent.to(HOST))
                yield FRAMES_PER_LATENT * (len(found) - 1) + 1
            return torch.stack(found, dim=1)

        return encode


def _nothing_to_encode(_: Frames) -> Reading:
    raise AssertionError("no source has pictures")
