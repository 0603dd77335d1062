"""The decoder, counted: what one latent frame of 480x832 and a whole clip ask of a card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from benchmarks.count.tally import CARD, Sum, Tally, on_a_card, put_on_card
from holo_lite.film.vae import Vae
from holo_lite.film.vae_files import VaeConfig
from holo_lite.film.vae_shapes import Z_DIM
from holo_lite.system.quiet import without_remarks

AREA = (60, 104)  # latents of a frame of 480x832
BASE_DIM = 96
LATENT_FRAMES = 61  # of 241 video frames


@dataclass(frozen=True)
class Decoding:
    """The first latent frame, the second, and every later one, which are alike."""

    first: Tally
    second: Tally
    later: Tally

    def whole(self, latent_frames: int = LATENT_FRAMES) -> Sum:
        """All launches of a clip of three latent frames or more."""
        ends, later = [*self.first.launches, *self.second.launches], self.later.launches
        once = Sum.of(ends)
        each = Sum.of(later)
        times = latent_frames - 2
        return Sum(
            once.launches + times * each.launches,
            once.read + times * each.read,
            once.written + times * each.written,
            once.operations + times * each.operations,
        )


def count_decode(area: tuple[int, int] = AREA, dtype: torch.dtype = torch.bfloat16) -> Decoding:
    """Count three latent frames (rows, columns of latents), whole frames, as the runtime decodes them."""
    with on_a_card() as tally:
        with tally.quiet():
            vae = decoder(dtype)
            latents = torch.empty(Z_DIM, 3, *area, device=CARD)
        cache = vae.new_cache()
        found = []
        for index in range(3):
            with _afresh(tally) as frame:
                for _ in vae.advance(vae.decoder_input(latents[:, index]), cache):
                    pass
            found.append(frame)
    return Decoding(*found)


def decoder(dtype: torch.dtype) -> Vae:
    """The released decoder on the card, without its numbers."""
    config = VaeConfig(BASE_DIM)
    with without_remarks():
        from diffusers import AutoencoderKLWan

    with torch.device("meta"):
        model = AutoencoderKLWan(base_dim=config.base_dim, z_dim=Z_DIM).eval()
    put_on_card(model, lambda _: dtype)
    return Vae.of(config, model, dtype, CARD)


@contextmanager
def _afresh(tally: Tally) -> Iterator[Tally]:
    """What is counted in the context, by itself."""
    found = Tally()
    start, allocations, dispatches = len(tally.launches), tally.allocations, tally.dispatches
    yield found
    found.launches = tally.launches[start:]
    found.allocations = tally.allocations - allocations
    found.dispatches = tally.dispatches - dispatches
