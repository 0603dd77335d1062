"""The latents with which a run begins: noise, with what is given of the clip in its places.

Pictures and frames of videos are encoded first, before the text encoder is read. A run that goes on has what was
given in its saved state, and what that came from is not opened again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from holo_lite.cancel import Cancel
from holo_lite.directing.given import Encode, Frames, Reading, passed_on
from holo_lite.errors import RunError
from holo_lite.events import Event, PhaseAdvanced, PhaseStarted
from holo_lite.film.encode import encode_frames
from holo_lite.film.tiling import Tile
from holo_lite.film.vae_encoder import load_vae_encoder
from holo_lite.model.clip import Clip
from holo_lite.render.job import Job
from holo_lite.runs.state import State
from holo_lite.sampling.frozen import FrozenLatents
from holo_lite.sampling.sampler import initial_noise
from holo_lite.story.shots import FRAMES_PER_LATENT

HOST = torch.device("cpu")
First = tuple[Tensor, FrozenLatents | None]  # (16, F, h, w) fp32, and what of them stays


@dataclass(frozen=True)
class GivenReader:
    """The VAE's file and how its encoder is computed. Latents will be on `device`."""

    vae: Path
    dtype: torch.dtype
    device: torch.device

    def first(self, job: Job, before: State | None, settle: Callable[[], None]) -> Generator[Event, None, First]:
        """The latents of a run that begins, or goes on from a state, and what of them is frozen.

        `settle` raises if the VAE's weights are not those that were hashed. Raises `OutputError` for a file that is
        not what it was, and `RunError` where a run that was interrupted before its first step has nothing to begin
        from.
        """
        noise = initial_noise(Clip(job.settings.layout), job.settings.seed).to(self.device)
        frames = job.frozen_frames
        if not frames:
            return before.latents.to(self.device) if before else noise, None
        clean = before.latents[:, list(frames)] if before else (yield from self._given(job, settle))
        frozen = FrozenLatents.of(frames, clean, noise, job.settings.frozen.kappa)
        return before.latents.to(self.device) if before else frozen.put_into(noise), frozen

    def _given(self, job: Job, settle: Callable[[], None]) -> Generator[Event, None, Tensor]:
        if job.given is None:
            raise RunError(
                "the run was interrupted before its first step, and what it was to begin from is not kept with it; "
                "type the command that began it again"
            )
        if not job.given.pictures:
            return (yield from passed_on(job.given.latents(_nothing_to_encode), PhaseAdvanced))
        yield PhaseStarted("load", 0, subject="the encoder")
        settle()
        encode = self._encoder(job.encoding.tile if job.encoding else None, job.cancel)
        yield PhaseStarted("encode", job.given.pictures)
        latents = yield from passed_on(job.given.latents(encode), PhaseAdvanced)
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
