"""Every layer of the VAE against diffusers' layer of the same weights, frame after frame."""

from collections import defaultdict

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanAttentionBlock,
    WanCausalConv3d,
    WanMidBlock,
    WanResample,
    WanResidualBlock,
    WanRMS_norm,
)

from holo_lite.film.vae import Doubling, Enlarging
from holo_lite.film.vae_encoder import Halving, Shrinking
from holo_lite.film.vae_layers import (
    Attention,
    CausalConv,
    Norm,
    Past,
    Plane,
    Product,
    Residual,
    middle,
    split_time,
)

FP32, FP64 = torch.float32, torch.float64


@pytest.fixture(autouse=True)
def _numbers():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def frames_of(channels, dtype, rows=6, columns=10, count=6):
    return [torch.randn(rows, columns, channels, dtype=dtype) for _ in range(count)]


def seasoned(module, dtype):
    """A module of random weights, its norms' and biases' among them."""
    for parameter in module.parameters():
        if parameter.ndim < 2 or parameter.shape[1:].numel() == 1:
            parameter.uniform_(-1.5, 1.5)
    return module.to(dtype)


def as_library(frame):
    return frame.permute(2, 0, 1)[None, :, None]


def as_ours(x):
    return [each.permute(1, 2, 0) for each in x[0].unbind(1)]


def same(found, expected, dtype):
    """Whether two tensors are equal but for what rounding does."""
    assert found.shape == expected.shape
    assert found.dtype == dtype
    error = ((found - expected).norm() / expected.norm()).item()
    assert error <= (1e-14 if dtype == FP64 else 1e-6)


def run_library(module, frames):
    """The frames' results, one after the other, by the library's own feature cache."""
    cache = defaultdict(lambda: None)
    return [each for frame in frames for each in as_ours(module(as_library(frame), cache, [0]))]


def in_turn(layers):
    def step(x, cache):
        for layer in layers:
            x = layer(x, cache)
        return x

    return step


@pytest.mark.parametrize("dtype", [FP32, FP64])
@pytest.mark.parametrize(
    ("build", "ours", "channels"),
    [
        (lambda: WanResidualBlock(8, 8), Residual.of, 8),
        (lambda: WanResidualBlock(8, 20), Residual.of, 8),
        (lambda: WanMidBlock(24), lambda block: in_turn(middle(block)), 24),
    ],
    ids=["residual", "residual that widens", "middle"],
)
def test_blocks_compute_what_the_library_does(build, ours, channels, dtype):
    module, frames = seasoned(build(), dtype), frames_of(channels, dtype)
    expected = run_library(module, frames)
    layer, cache = ours(module), {}
    for frame, each in zip(frames, expected, strict=True):
        same(layer(frame, cache), each, dtype)


@pytest.mark.parametrize("dtype", [FP32, FP64])
def test_attention_sees_its_frame_alone(dtype):
    module, frames = seasoned(WanAttentionBlock(12), dtype), frames_of(12, dtype, count=2)
    expected = [as_ours(module(as_library(frame)))[0] for frame in frames]
    layer = Attention.of(module)
    for frame, each in zip(frames, expected, strict=True):
        same(layer(frame, {}), each, dtype)


@pytest.mark.parametrize("dtype", [FP32, FP64])
@pytest.mark.parametrize("normed", [False, True])
def test_a_convolution_sees_two_frames_back_and_zeros_before_the_first(dtype, normed):
    conv, norm = seasoned(WanCausalConv3d(5, 7, 3, padding=1), dtype), seasoned(WanRMS_norm(5, images=False), dtype)
    frames = frames_of(5, dtype)
    clip = torch.cat([as_library(frame) for frame in frames], dim=2)
    expected = as_ours(conv(torch.nn.functional.silu(norm(clip)) if normed else clip))
    layer, cache = CausalConv.of(conv, norm if normed else None), {}
    for frame, each in zip(frames, expected, strict=True):
        same(layer(frame, cache), each, dtype)


def test_the_norm_of_zeros_is_zeros():
    layer = Norm.of(seasoned(WanRMS_norm(5, images=False), FP32))
    assert layer.write(torch.zeros(2, 3, 5), torch.empty(2, 3, 5)).eq(0).all()


def test_the_norm_of_bf16_is_computed_in_fp32():
    x = torch.randn(4, 4, 96).bfloat16() * 100
    exact = Norm(torch.ones(96)).write(x.float(), torch.empty(4, 4, 96))
    found = Norm(torch.ones(96).bfloat16()).write(x, torch.empty_like(x))
    assert torch.equal(found, exact.bfloat16())


@pytest.mark.parametrize("mode", ["upsample2d", "upsample3d"])
def test_frames_become_larger_and_more(mode):
    module = seasoned(WanResample(8, mode), FP32)
    frames = frames_of(8, FP32)
    expected = run_library(module, frames)
    doubling = Doubling.of(module.time_conv) if mode == "upsample3d" else lambda x, _: (x,)
    enlarging, cache = Enlarging(Plane.of(module.resample[1])), {}
    found = [enlarging(each, cache) for frame in frames for each in doubling(frame, cache)]
    assert len(found) == len(expected) == (11 if mode == "upsample3d" else 6)
    for ours, theirs in zip(found, expected, strict=True):
        same(ours, theirs, FP32)


@pytest.mark.parametrize("mode", ["downsample2d", "downsample3d"])
def test_frames_become_smaller_and_fewer(mode):
    """The library takes two frames at once where time halves, but the first."""
    module, frames = seasoned(WanResample(8, mode), FP32), frames_of(8, FP32, count=7)
    groups = [frames[:1], *([frames[n], frames[n + 1]] for n in (1, 3, 5))] if mode == "downsample3d" else [frames]
    kept = defaultdict(lambda: None)
    expected = [
        each
        for group in groups
        for each in as_ours(module(torch.cat([as_library(frame) for frame in group], 2), kept, [0]))
    ]
    shrinking, cache = Shrinking(Plane.of(module.resample[1])), {}
    halving = Halving(split_time(module.time_conv)) if mode == "downsample3d" else lambda x, _: x
    found = [each for frame in frames if (each := halving(shrinking(frame, cache), cache)) is not None]
    assert len(found) == len(expected) == (4 if mode == "downsample3d" else 7)
    for ours, theirs in zip(found, expected, strict=True):
        same(ours, theirs, FP32)


def test_a_product_is_a_convolution_of_one_pixel():
    conv = torch.nn.Conv2d(6, 9, 1)
    x = torch.randn(3, 4, 6)
    expected = conv(x.permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    same(Product.of(conv)(x), expected, FP32)


def test_the_library_keeps_no_second_copy_of_the_weights():
    block = WanResidualBlock(8, 20)
    Residual.of(block)
    assert list(block.parameters()) == []


def test_what_is_remembered_is_a_copy():
    """The window that a frame lies in is memory for the next one."""
    frame = torch.ones(2, 2, 3)
    past = Past(frame)
    past.keep(frame)
    frame.zero_()
    assert past.window()[:, :, 1].eq(1).all()
