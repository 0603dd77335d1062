"""What decoding and encoding are planned to cost against the real layers, run without data."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKLWan
from hypothesis import given, strategies as st
from live_bytes import LiveBytes
from torch.utils.flop_counter import FlopCounterMode

from holo_lite.errors import FitError
from holo_lite.film.vae import Vae
from holo_lite.film.vae_encoder import VaeEncoder
from holo_lite.film.vae_files import VaeConfig
from holo_lite.film.vae_load import DECODER_PARTS, ENCODER_PARTS
from holo_lite.plan.decoding import Decoder
from holo_lite.plan.fit import plan_encoding
from holo_lite.plan.machine import Machine
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.pixels import PixelEncoder
from holo_lite.plan.profile import GIB, find_profile, shipped_profiles
from holo_lite.plan.released import released_sizes
from holo_lite.plan.search import Problem
from holo_lite.story.shots import ShotLayout

META = torch.device("meta")
BF16, FP32 = torch.bfloat16, torch.float32
CASES = [
    (60, 104, BF16, 96),
    (30, 52, FP32, 96),
    (90, 160, BF16, 96),
    (16, 24, FP32, 16),
    (16, 24, FP32, 4),
    (180, 240, BF16, 96),  # there the scores of attention count
]


class Counted:
    """Weights, peak, cache and operations of one half of the VAE without data, over `latent_frames`."""

    def __init__(self, parts, dtype, base_dim):
        with META:
            model = AutoencoderKLWan(base_dim=base_dim).to(dtype).requires_grad_(False)
        self.weights = sum(p.nbytes for name, p in model.named_parameters() if name.startswith(parts))
        kind = Vae if parts == DECODER_PARTS else VaeEncoder
        self.half = kind.of(VaeConfig(base_dim), model, dtype, META)
        self.cache, self.counts = self.half.new_cache(), []

    def run(self, steps):
        with LiveBytes(computing=False) as live:
            for step in steps:
                with FlopCounterMode(display=False) as counter:
                    step()
                self.counts.append(counter.get_total_flops())
            self.peak, self.now = live.peak, live.now
        return self


def decoded(height, width, dtype, base_dim, latent_frames=3):
    counted = Counted(DECODER_PARTS, dtype, base_dim)
    latents = torch.empty(16, height, width, device=META)

    def step():
        for frame in counted.half.advance(counted.half.decoder_input(latents), counted.cache):
            del frame

    return counted.run([step] * latent_frames)


def encoded(height, width, dtype, base_dim, latent_frames=3):
    counted = Counted(ENCODER_PARTS, dtype, base_dim)
    frame = torch.empty(8 * height, 8 * width, 3, dtype=torch.uint8, device=META)

    def step():
        counted.half.advance(counted.half.encoder_input(frame), counted.cache)

    return counted.run([step] * (4 * latent_frames - 3))


@pytest.mark.parametrize(
    ("run", "planned"), [(decoded, Decoder), (encoded, PixelEncoder)], ids=["decoder", "encoder"]
)
@pytest.mark.parametrize(("height", "width", "dtype", "base_dim"), CASES)
def test_each_half_costs_what_its_layers_do(run, planned, height, width, dtype, base_dim):
    costs, counted = planned(base_dim, dtype.itemsize), run(height, width, dtype, base_dim)
    assert costs.weights == counted.weights
    assert costs.cache(height, width) == counted.now
    assert costs.operations(height, width, 3) == sum(counted.counts)
    assert counted.peak <= costs.frame(height, width) <= 1.01 * counted.peak


@pytest.mark.parametrize("costs", [Decoder(), PixelEncoder()], ids=["decoder", "encoder"])
def test_tiles_compute_what_they_share_again(costs):
    whole = costs.operations(60, 104, 61)
    assert costs.tiled_operations(60, 104, 61, (30, 52)) == pytest.approx(2.25 * whole, rel=0.01)
    assert costs.tiled_operations(60, 104, 61, (60, 104)) == whole
    assert costs.frame(30, 52) < 0.26 * costs.frame(60, 104)
    assert costs.host_caches(60, 104, (30, 52)) == 9 * costs.cache(30, 52)


def test_a_tile_and_its_canvas_take_less_than_half_of_a_frame():
    assert Decoder().tiled(60, 104, (30, 52)) < 0.45 * Decoder().frame(60, 104)
    assert PixelEncoder().blended(60, 104, (30, 52)) < 0.26 * PixelEncoder().blended(60, 104, None)


@given(height=st.integers(1, 200), width=st.integers(1, 300), base_dim=st.sampled_from([4, 16, 96]))
def test_encoding_takes_less_than_decoding(height, width, base_dim):
    """So every clip that can be decoded has room for its pictures."""
    encoder, decoder = PixelEncoder(base_dim), Decoder(base_dim)
    assert encoder.weights < decoder.weights
    assert encoder.blended(height, width, None) < decoder.frame(height, width) + decoder.pixels(height, width)
    assert encoder.blended(height, width, (30, 52)) < decoder.tiled(height, width, (30, 52))


CLIP = ClipRequest(ShotLayout((0, 13, 25, 37, 49), 61, 30, 52))


def test_pictures_are_encoded_whole_wherever_a_clip_fits_at_480x832():
    for profile in shipped_profiles():
        plan = plan_encoding(profile, released_sizes("nf4"), CLIP, Machine(ram=16 * GIB, ram_free=14 * GIB))
        assert plan.tile is None
        assert plan.tile_caches == 0
        assert plan.peak < (2 if profile.device == "cuda" else 3.5) * GIB  # a CPU computes in fp32


def test_large_pictures_are_encoded_in_tiles():
    large = ClipRequest(ShotLayout((0,), 1, 135, 240))
    profile = find_profile("6gb")
    plan = plan_encoding(profile, released_sizes("nf4"), large)
    assert plan.tile == (30, 52)
    assert plan.tile_caches == PixelEncoder().host_caches(270, 480, (30, 52))
    assert plan.peak <= profile.card - profile.headroom


@given(mib=st.integers(2500, 20_000), rows=st.integers(4, 80), columns=st.integers(4, 140))
def test_pictures_are_encoded_whole_if_that_fits_and_else_in_the_largest_tiles_that_do(mib, rows, columns):
    profile = replace(find_profile("24gb"), card=mib * 2**20)
    problem = Problem(profile, released_sizes("nf4"), ClipRequest(ShotLayout((0,), 1, rows, columns)))
    peaks = {tile: problem.arithmetic.encode(tile) for tile in problem.tiles}
    fitting = [tile for tile, peak in peaks.items() if peak <= problem.room]
    if not fitting:
        with pytest.raises(FitError):
            plan_encoding(profile, problem.sizes, problem.request)
        return
    plan = plan_encoding(profile, problem.sizes, problem.request)
    assert (plan.tile, plan.peak) == (fitting[0], peaks[fitting[0]])
