"""Encoding against diffusers' own, whole and in tiles, and everything that can be wrong with frames."""

import weakref
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan
from diffusers_vae import diffusers_vae
from hypothesis import given, settings, strategies as st
from live_bytes import LiveBytes

import holo_lite.tiny
from holo_lite.cancel import Cancel, Cancelled
from holo_lite.errors import CheckpointError, SettingsError
from holo_lite.film.blending import lay_tiles, summed_weights
from holo_lite.film.encode import encode_frames
from holo_lite.film.vae_encoder import VaeEncoder, load_vae_encoder
from holo_lite.film.vae_files import LATENTS_MEAN, LATENTS_STD, VaeConfig

DATA = Path(__file__).parents[1] / "parity_data" / "vae.safetensors"
TINY = Path(holo_lite.tiny.__file__).parent / "weights" / "vae"
CPU = torch.device("cpu")
FP32 = torch.float32


@pytest.fixture(scope="module")
def encoder():
    return load_vae_encoder(DATA, dtype=FP32, device=CPU)


def pictures(count, height=40, width=56, seed=0):
    """Frames that change slowly, as a film's do, with some noise."""
    numbers = torch.Generator().manual_seed(seed)
    soft = torch.nn.functional.interpolate(
        torch.rand(1, 3, 2 + count // 8, 3, 4, generator=numbers), (count, height, width), mode="trilinear"
    )
    noisy = soft[0].permute(1, 2, 3, 0) * 230 + torch.rand(count, height, width, 3, generator=numbers) * 25
    return noisy.to(torch.uint8)


def encoded(encoder, frames, tile=None, **options):
    return torch.stack(list(encode_frames(encoder, frames, tile, **options)), dim=1)


def diffusers_latents(model, frames, config):
    """The library's own way, which takes the whole clip."""
    x = (frames.to(FP32) / 127.5 - 1).permute(3, 0, 1, 2)[None]
    mode = model.encode(x.to(model.dtype)).latent_dist.mode()[0].float()
    mean, std = (torch.tensor(v).view(-1, 1, 1, 1) for v in (config.latents_mean, config.latents_std))
    return (mode - mean) / std


def error(found, expected):
    return (found - expected).abs().max().item()


def random_vae(base_dim, seed):
    torch.manual_seed(seed)
    model = AutoencoderKLWan(base_dim=base_dim).requires_grad_(False).eval()
    for parameter in model.parameters():
        if parameter.ndim == 4 and parameter.shape[1:] == (1, 1, 1):
            parameter.uniform_(0.5, 1.5)  # a norm's
    return model


@settings(max_examples=8, deadline=None)
@given(
    base_dim=st.sampled_from([2, 3, 5, 8]),
    frames=st.integers(1, 14),
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
    seed=st.integers(0, 2**20),
)
def test_latents_are_those_of_diffusers(base_dim, frames, rows, columns, seed):
    """Frames that make no whole latent frame are left out, by both."""
    model = random_vae(base_dim, seed)
    config, clip = VaeConfig(base_dim), pictures(frames, 8 * rows, 8 * columns, seed)
    expected = diffusers_latents(model, clip, config)
    found = encoded(VaeEncoder.of(config, model, FP32, CPU), clip)
    assert found.shape == expected.shape == (16, 1 + (frames - 1) // 4, rows, columns)
    assert found.dtype == FP32
    assert error(found, expected) <= 1e-5


@pytest.mark.parametrize("path", [DATA, TINY], ids=["toy", "tiny"])
@pytest.mark.parametrize(("dtype", "most"), [(FP32, 1e-5), (torch.bfloat16, 0.06)])
def test_latents_of_files_are_those_of_diffusers(path, dtype, most):
    config, model = diffusers_vae(path, dtype=dtype)
    clip = pictures(9)
    found = encoded(load_vae_encoder(path, dtype=dtype, device=CPU), clip)
    assert error(found, diffusers_latents(model, clip, config)) <= most


def test_numpy_frames_are_taken_as_tensors_are(encoder):
    clip = pictures(5)
    assert torch.equal(encoded(encoder, clip.numpy()), encoded(encoder, clip))


def test_latents_come_as_soon_as_their_frames_have(encoder):
    given_in = []

    def frames():
        for index, frame in enumerate(pictures(10)):
            given_in.append(index)
            yield frame

    latents = encode_frames(encoder, frames())
    assert given_in == []
    for expected in (1, 5, 9):
        next(latents)
        assert len(given_in) == expected
    assert list(latents) == []


@pytest.mark.parametrize("tile", [None, (3, 4)])
def test_latents_and_frames_do_not_pile_up(encoder, tile):
    born, most = [], 0

    def frames():
        for frame in pictures(17):
            born.append(weakref.ref(copy := frame.clone()))
            yield copy
            del copy

    for latent in encode_frames(encoder, frames(), tile):
        born.append(weakref.ref(latent))
        del latent
        most = max(most, sum(ref() is not None for ref in born))
    assert most <= 6


def test_memory_does_not_grow_with_the_clip_and_stays_under_that_of_diffusers():
    """At full size, on meta: diffusers needs the pixels of the clip, and four frames in work."""
    meta = torch.device("meta")
    with meta:
        model = AutoencoderKLWan().to(torch.bfloat16).requires_grad_(False)
        frame = torch.empty(480, 832, 3, dtype=torch.uint8)
    encoder, peaks = VaeEncoder.of(VaeConfig(96), model, torch.bfloat16, meta), []
    cache = encoder.new_cache()
    with LiveBytes(computing=False) as live:
        for _ in range(17):
            encoder.advance(encoder.encoder_input(frame), cache)
            peaks.append(live.peak)
    assert peaks[-1] == peaks[6]
    assert peaks[-1] < 1.53e9


def test_an_abandoned_encoding_leaves_nothing_behind(encoder):
    clip = pictures(9)
    expected = encoded(encoder, clip)
    abandoned = encode_frames(encoder, clip)
    next(abandoned)
    abandoned.close()
    assert torch.equal(encoded(encoder, clip), expected)


def test_cancelling_ends_it_before_the_next_frame(encoder):
    cancel = Cancel()
    latents = encode_frames(encoder, pictures(9), cancel=cancel)
    next(latents)
    cancel.cancel()
    with pytest.raises(Cancelled):
        next(latents)


# --- tiles -----------------------------------------------------------------------------------------


def test_one_tile_over_everything_is_the_whole_frame(encoder):
    clip = pictures(9)
    assert torch.equal(encoded(encoder, clip, (30, 52)), encoded(encoder, clip))


@pytest.mark.parametrize("cache_device", [None, CPU])
def test_tiles_are_diffusers_latents_of_their_pixels_blended(encoder, cache_device):
    """The slow, obvious way: each tile's whole clip by itself, then the weighted mean."""
    clip, tile = pictures(9, 64, 72), (4, 6)
    config, model = diffusers_vae(DATA, dtype=FP32)
    tiles = lay_tiles((8, 9), tile, (2, 3), CPU, scale=1)
    assert [(part.rows.latents.start, part.cols.latents.start) for part in tiles] == [
        (row, column) for row in (0, 2, 4) for column in (0, 3)
    ]
    whole = torch.zeros(16, 3, 8, 9)
    for part in tiles:
        pixels = clip[:, part.rows.pixels, part.cols.pixels]
        found = diffusers_latents(model, pixels, config)
        whole[:, :, part.rows.latents, part.cols.latents] += found * part.weight()
    expected = whole / summed_weights(tiles)
    assert error(encoded(encoder, clip, tile, cache_device=cache_device), expected) <= 1e-5


def test_the_same_tiles_give_the_same_latents_near_those_of_whole_frames():
    encoder = load_vae_encoder(TINY, dtype=FP32, device=CPU)
    clip = pictures(5, 128, 160)
    tiled = encoded(encoder, clip, (12, 14))
    assert torch.equal(tiled, encoded(encoder, clip, (12, 14)))
    assert 0 < (tiled - encoded(encoder, clip)).square().mean().sqrt() < 0.05


# --- what can be wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(36, 56), (40, 50), (4, 8)])
def test_sides_that_are_no_multiples_of_8_are_named(encoder, size):
    with pytest.raises(SettingsError, match=f"{size[1]}×{size[0]} pixels cannot be encoded"):
        next(encode_frames(encoder, pictures(1, *size)))


def test_frames_of_two_sizes_are_named(encoder):
    clip = [*pictures(3, 40, 56), *pictures(2, 48, 56)]
    latents = encode_frames(encoder, clip)
    next(latents)
    with pytest.raises(SettingsError, match="56×48 pixels follows frames of 56×40"):
        next(latents)


def test_a_missing_file_is_a_checkpoint_error(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        load_vae_encoder(tmp_path / "nowhere.pth", dtype=FP32, device=CPU)


def test_latent_scale_is_that_of_the_config(encoder):
    assert encoder.config == VaeConfig(4, LATENTS_MEAN, LATENTS_STD)
