"""The latents with which a run begins: noise, with what is given of the clip in its places.

A run that goes on has what was given in its saved state, and what it was made from is not opened again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from holo_lite.directing.given import Encode
from holo_lite.errors import RunError
from holo_lite.events import Event, PhaseStarted
from holo_lite.model.clip import Clip
from holo_lite.render.job import Job
from holo_lite.runs.state import State
from holo_lite.sampling.frozen import FrozenLatents
from holo_lite.sampling.sampler import initial_noise


@dataclass(frozen=True)
class GivenReader:
    """Where latents are to be, and how frames that are given are encoded."""

    device: torch.device
    encoder: Callable[[Job], Encode]

    def first(self, job: Job, before: State | None) -> Generator[Event, None, tuple[Tensor, FrozenLatents | None]]:
        """The latents (16, F, h, w) of a run that begins, or goes on from a state, and what of them is frozen.

        Raises `OutputError` for a file that is not what it was, and `RunError` where a run that was interrupted
        before its first step has nothing to begin from.
        """
        noise = initial_noise(Clip(job.settings.layout), job.settings.seed).to(self.device)
        frames = job.frozen_frames
        if not frames:
            return before.latents.to(self.device) if before else noise, None
        clean = before.latents[:, list(frames)] if before else (yield from self._given(job))
        frozen = FrozenLatents.of(frames, clean, noise, job.settings.frozen.kappa)
        return before.latents.to(self.device) if before else frozen.put_into(noise), frozen

    def _given(self, job: Job) -> Generator[Event, None, Tensor]:
        if job.given is None:
            raise RunError(
                "the run was interrupted before its first step, and what it was to begin from is not kept with it; "
                "type the command that began it again"
            )
        if job.given.pictures:
            yield PhaseStarted("encode", job.given.pictures)
        return job.given.latents(self.encoder(job))


def no_encoder(_: object) -> Tensor:
    """Where nothing can be encoded. Raises `RunError`."""
    raise RunError("this needs the encoder of the VAE, which is not read yet")
