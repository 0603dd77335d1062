"""Decoding against the reference's numbers, diffusers' own layers, and every way a VAE file can be wrong."""

import json
import weakref
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
from diffusers import AutoencoderKLWan
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from diffusers.models.autoencoders.autoencoder_kl_wan import WanUpsample
from diffusers_vae import diffusers_vae
from live_bytes import LiveBytes
from safetensors.torch import load_file, save_file

import holo_lite.tiny
from holo_lite.errors import CheckpointError, SettingsError
from holo_lite.film.vae import Stage, Vae, decode_frames, load_vae, to_uint8
from holo_lite.film.vae_encoder import load_vae_encoder
from holo_lite.film.vae_files import LATENTS_MEAN, LATENTS_STD, VaeConfig, check_vae
from holo_lite.film.vae_tiles import decode_frames_tiled
from holo_lite.weights.safetensors_file import SafetensorsFile

DATA = Path(__file__).parents[1] / "parity_data"
TINY = Path(holo_lite.tiny.__file__).parent / "weights" / "vae"
CPU = torch.device("cpu")
BASE_DIM = 4


@pytest.fixture(scope="module")
def weights():
    return load_file(DATA / "vae.safetensors")


@pytest.fixture(scope="module")
def reference():
    return {name: tensor[0] for name, tensor in load_file(DATA / "vae_decode.safetensors").items()}


@pytest.fixture(scope="module")
def vae():
    return load_vae(DATA / "vae.safetensors", dtype=torch.float32, device=CPU)


@pytest.fixture(scope="module")
def frames(vae, reference):
    return torch.stack(list(decode_frames(vae, reference["latents"])), dim=1)


def relative_error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def diffusers_raw_decode(path, latents, dtype):
    """The slow, obvious way: whole latent frames through diffusers' own decoder and cache."""
    config, model = diffusers_vae(path, dtype=dtype)
    mean, std = (torch.tensor(v).view(-1, 1, 1, 1) for v in (config.latents_mean, config.latents_std))
    x, cache = model.post_quant_conv((latents * std + mean).to(dtype)[None]), [None] * 64
    with mock.patch.object(WanUpsample, "forward", torch.nn.Upsample.forward):  # diffusers' goes through fp32
        chunks = [model.decoder(frame[:, :, None], cache, [0]) for frame in x.unbind(2)]
    return torch.cat(chunks, dim=2)[0]


def diffusers_folder(weights, folder, **changes):
    folder.mkdir()
    renamed = convert_wan_vae_to_diffusers(dict(weights))
    save_file(renamed, folder / "diffusion_pytorch_model.safetensors")
    config = {"_class_name": "AutoencoderKLWan", "base_dim": BASE_DIM, "z_dim": 16, "dropout": 0.0} | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def changed(weights, folder, change):
    copy = dict(weights)
    change(copy)
    save_file(copy, folder / "vae.safetensors")
    return folder / "vae.safetensors"


def test_frames_equal_the_reference(frames, reference):
    assert frames.shape == reference["video"].shape
    assert relative_error(frames, reference["video"]) <= 1e-5


def decoded(path, latents, dtype):
    frames = torch.stack(list(decode_frames(load_vae(path, dtype=dtype, device=CPU), latents)), dim=1)
    assert frames.dtype == dtype
    return frames


@pytest.mark.parametrize("path", [DATA / "vae.safetensors", TINY], ids=["toy", "tiny"])
def test_one_frame_at_a_time_computes_what_diffusers_does(path, reference):
    """In double precision but for the last bits; in the others it is as near to that as diffusers is."""
    latents = reference["latents"][:, :3, :5, :6]
    exact = diffusers_raw_decode(path, latents, torch.float64)
    assert relative_error(decoded(path, latents, torch.float64), exact) <= 1e-13
    for dtype, most in ((torch.float32, 2e-6), (torch.bfloat16, 0.03)):
        theirs = diffusers_raw_decode(path, latents, dtype)
        found = relative_error(decoded(path, latents, dtype).double(), exact)
        assert found <= most
        assert found <= 1.5 * relative_error(theirs.double(), exact)


def test_frames_are_not_clamped(vae, reference):
    assert max(frame.abs().max() for frame in decode_frames(vae, reference["latents"] * 20)) > 1


@pytest.mark.parametrize(("latent_frames", "video_frames"), [(1, 1), (2, 5)])
def test_f_latent_frames_become_4f_minus_3(vae, reference, frames, latent_frames, video_frames):
    decoded = list(decode_frames(vae, reference["latents"][:, :latent_frames]))
    assert len(decoded) == video_frames
    assert torch.equal(torch.stack(decoded, dim=1), frames[:, :video_frames])


def test_latents_may_come_in_another_dtype(vae, reference, frames):
    decoded = torch.stack(list(decode_frames(vae, reference["latents"].double())), dim=1)
    assert torch.equal(decoded, frames)


def test_two_decodings_at_once_do_not_share_a_cache(vae, reference, frames):
    first, second = (decode_frames(vae, reference["latents"]) for _ in range(2))
    for index, (a, b) in enumerate(zip(first, second, strict=True)):
        assert torch.equal(a, frames[:, index])
        assert torch.equal(b, frames[:, index])


def test_an_abandoned_decoding_leaves_nothing_behind(vae, reference, frames):
    abandoned = decode_frames(vae, reference["latents"])
    assert isinstance(abandoned, Generator)
    next(abandoned)
    abandoned.close()
    assert torch.equal(torch.stack(list(decode_frames(vae, reference["latents"])), dim=1), frames)


def counting(vae, steps):
    """The decoder with a layer in front of every stage that notes which frame it is given."""

    def noted(x, _):
        steps.append(x.shape)
        return x

    return replace(vae, stages=tuple(Stage((noted, *stage.layers), stage.doubling) for stage in vae.stages))


def test_a_frame_is_decoded_only_when_it_is_asked_for(vae, reference):
    steps = []
    decoding = decode_frames(counting(vae, steps), reference["latents"])
    assert steps == []
    for expected in (3, 6, 7, 9, 10):  # stages run for frames 0 to 4: no later stage runs ahead
        next(decoding)
        assert len(steps) == expected
    assert {len(shape) for shape in steps} == {3}


@pytest.mark.parametrize("tiled", [False, True])
def test_decoded_frames_do_not_pile_up(vae, reference, tiled):
    latents = reference["latents"]
    tiles = {"tile": (6, 6), "stride": (3, 3)}
    decoding = decode_frames_tiled(vae, latents, **tiles) if tiled else decode_frames(vae, latents)
    born, most = [], 0
    for frame in decoding:
        born.append(weakref.ref(frame))
        del frame
        most = max(most, sum(ref() is not None for ref in born))
    assert most <= 4  # blending makes the frames of one latent frame together


def test_memory_does_not_grow_with_the_clip_and_stays_under_that_of_diffusers():
    """At full size, on meta: 4.0 GB with diffusers' steps; 1.9 GB of either is the feature cache."""
    meta = torch.device("meta")
    with meta:
        model = AutoencoderKLWan().to(torch.bfloat16).requires_grad_(False)
        latents = torch.empty(16, 60, 104)
    vae = Vae.of(VaeConfig(96), model, torch.bfloat16, meta)
    cache, peaks = vae.new_cache(), []
    with LiveBytes(computing=False) as live:
        for _ in range(5):
            for frame in vae.advance(vae.decoder_input(latents), cache):
                del frame
            peaks.append(live.peak)
    assert peaks[-1] == peaks[2]
    assert peaks[-1] < 2.31e9


def test_no_gradients_are_recorded(vae, reference):
    assert not next(decode_frames(vae, reference["latents"])).requires_grad


def test_every_layout_gives_the_same_frames(weights, reference, frames, tmp_path):
    torch.save(weights, tmp_path / "Wan2.1_VAE.pth")
    folder = diffusers_folder(weights, tmp_path / "vae")
    inside = folder / "diffusion_pytorch_model.safetensors"
    prefixed = tmp_path / "prefixed.safetensors"  # as DiffSynth and ComfyUI save it
    save_file({f"model.{name}": tensor for name, tensor in weights.items()}, prefixed)
    for path in (tmp_path / "Wan2.1_VAE.pth", folder, inside, prefixed):
        vae = load_vae(path, dtype=torch.float32, device=CPU)
        assert torch.equal(torch.stack(list(decode_frames(vae, reference["latents"])), dim=1), frames)


@pytest.mark.parametrize(
    ("load", "other"),
    [(load_vae, ("encoder.", "conv1.")), (load_vae_encoder, ("decoder.", "conv2."))],
    ids=["decoder", "encoder"],
)
def test_the_other_half_is_checked_but_never_read(weights, monkeypatch, load, other):
    real, read = SafetensorsFile.load, []
    monkeypatch.setattr(
        SafetensorsFile, "load", lambda file, *wanted: read.append(wanted[0]) or real(file, *wanted)
    )
    load(DATA / "vae.safetensors", dtype=torch.float32, device=CPU)
    assert sorted(read) == sorted(name for name in weights if not name.startswith(other))


def test_latent_scale_is_that_of_diffusers():
    defaults = AutoencoderKLWan(base_dim=BASE_DIM).config
    assert tuple(defaults.latents_mean) == LATENTS_MEAN
    assert tuple(defaults.latents_std) == LATENTS_STD


def test_config_follows_from_shapes_or_from_config_json(weights, tmp_path):
    assert check_vae(DATA / "vae.safetensors") == VaeConfig(base_dim=BASE_DIM)
    folder = diffusers_folder(weights, tmp_path / "vae", latents_mean=[0.5] * 16)
    assert check_vae(folder) == VaeConfig(base_dim=BASE_DIM, latents_mean=(0.5,) * 16)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda w: w.pop("decoder.upsamples.5.residual.2.bias"), "decoder.up_blocks.1.resnets.1.conv1.bias"),
        (lambda w: w.pop("encoder.head.0.gamma"), "encoder.norm_out.gamma"),
        (lambda w: w.pop("decoder.head.0.gamma"), "decoder.norm_out"),
        (lambda w: w.update({"decoder.surplus": torch.zeros(1)}), "decoder.surplus"),
        (lambda w: w.update({"decoder.conv1.bias": torch.zeros(5)}), "decoder.conv_in.bias is [5], not [16]"),
        (lambda w: w.update({"conv2.bias": torch.zeros(48)}), "48 latent channels"),
    ],
    ids=[
        "missing",
        "missing in the encoder",
        "missing width",
        "extra",
        "mis-shaped",
        "the VAE of Wan 2.2 5B",
    ],
)
def test_a_wrong_tensor_is_named_before_anything_is_loaded(weights, tmp_path, change, named):
    path = changed(weights, tmp_path, change)
    for attempt in (check_vae, lambda path: load_vae(path, dtype=torch.float32, device=CPU)):
        with pytest.raises(CheckpointError) as caught:
            attempt(path)
        assert named in str(caught.value)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dim_mult", [1, 2, 4, 8]),
        ("z_dim", 48),
        ("is_residual", True),
        ("_class_name", "AutoencoderKL"),
        ("base_dim", "wide"),
        ("latents_mean", [0.0] * 15),
        ("latents_std", 3),
    ],
)
def test_a_config_of_another_vae_is_refused_by_key(weights, tmp_path, key, value):
    with pytest.raises(CheckpointError, match=key):
        check_vae(diffusers_folder(weights, tmp_path / "vae", **{key: value}))


@pytest.mark.parametrize("content", ["{", "[]", None])
def test_a_damaged_or_missing_config_is_refused(weights, tmp_path, content):
    config = diffusers_folder(weights, tmp_path / "vae") / "config.json"
    config.unlink() if content is None else config.write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        check_vae(tmp_path / "vae")


def test_a_missing_file_is_a_checkpoint_error(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        check_vae(tmp_path / "nowhere.pth")


def test_pixels_are_rounded_and_clamped():
    frame = torch.tensor([-1.5, -1.0, 0.0, 0.5, 1.0, 7.0]).view(1, 1, 6).expand(3, 2, 6)
    pixels = to_uint8(frame.to(torch.bfloat16))
    assert pixels.shape == (2, 6, 3)
    assert pixels.dtype == torch.uint8
    assert pixels.is_contiguous()
    assert pixels[0, :, 0].tolist() == [0, 0, 128, 191, 255, 255]


@pytest.mark.parametrize("cache_device", [None, CPU])
def test_tiled_frames_equal_the_reference(vae, reference, cache_device):
    decoding = decode_frames_tiled(vae, reference["latents"], tile=(6, 6), stride=(3, 3), cache_device=cache_device)
    expected = reference["video_tiled_6x6_stride_3x3"]
    assert relative_error(torch.stack(list(decoding), dim=1), expected) <= 1e-5


@pytest.mark.parametrize("tile", [(8, 10), (30, 52)])
def test_one_tile_over_everything_is_the_whole_frame_clamped(vae, reference, frames, tile):
    decoding = decode_frames_tiled(vae, reference["latents"], tile=tile, stride=(4, 5))
    assert torch.equal(torch.stack(list(decoding), dim=1), frames.clamp(-1, 1))


def test_tiles_without_overlap_lie_side_by_side(vae, reference):
    latents = reference["latents"][:, :1]
    (frame,) = decode_frames_tiled(vae, latents, tile=(4, 10), stride=(4, 10))
    halves = [next(decode_frames(vae, latents[:, :, rows])) for rows in (slice(0, 4), slice(4, 8))]
    assert torch.allclose(frame, torch.cat(halves, dim=1).clamp(-1, 1), atol=1e-6)


@pytest.mark.parametrize("stride", [(0, 3), (3, 7), (-1, 3)])
def test_a_stride_that_leaves_gaps_is_refused_at_once(vae, reference, stride):
    with pytest.raises(SettingsError, match="stride"):
        decode_frames_tiled(vae, reference["latents"], tile=(6, 6), stride=stride)
