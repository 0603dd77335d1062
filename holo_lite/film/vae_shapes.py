"""Which tensors a Wan 2.1 VAE has: their names in diffusers' module, and their shapes.

Everything follows from one width. A file can so be judged without the library, whose import takes longer than all
else before the first step.
"""

from __future__ import annotations

from collections.abc import Iterator

Z_DIM = 16
WIDTHS = (1, 2, 4, 4)  # of the levels, in base widths, from the pixels down
DOUBLED = (False, True, True)  # where time halves on the way down, from the pixels on
COLOUR_CHANNELS = 3
PER_LEVEL = 2  # residual blocks of a level in the encoder; the decoder has one more

Shape = tuple[int, ...]
Tensors = Iterator[tuple[str, Shape]]


def vae_shapes(base_dim: int) -> dict[str, Shape]:
    """Every tensor of a VAE of this width, by its name in diffusers' `AutoencoderKLWan`."""
    widths = [base_dim * width for width in WIDTHS]
    found = dict(_encoder(widths))
    found.update(_conv("quant_conv", 2 * Z_DIM, 2 * Z_DIM, (1, 1, 1)))
    found.update(_conv("post_quant_conv", Z_DIM, Z_DIM, (1, 1, 1)))
    found.update(_decoder(widths))
    return found


def _encoder(widths: list[int]) -> Tensors:
    """Levels and the steps between them are one list."""
    yield from _conv("encoder.conv_in", COLOUR_CHANNELS, widths[0])
    index, width = 0, widths[0]
    for level, out in enumerate(widths):
        for _ in range(PER_LEVEL):
            yield from _residual(f"encoder.down_blocks.{index}", width, out)
            index, width = index + 1, out
        if level < len(DOUBLED):
            down = f"encoder.down_blocks.{index}"
            yield from _conv(f"{down}.resample.1", out, out, (3, 3))
            if DOUBLED[level]:
                yield from _conv(f"{down}.time_conv", out, out, (3, 1, 1))
            index += 1
    yield from _middle("encoder", width)
    yield from _head("encoder", width, 2 * Z_DIM)


def _decoder(widths: list[int]) -> Tensors:
    """Every step up halves the width, which is why the next level may begin narrower than it is."""
    width = widths[-1]
    yield from _conv("decoder.conv_in", Z_DIM, width)
    yield from _middle("decoder", width)
    for level, out in enumerate(reversed(widths)):
        block = f"decoder.up_blocks.{level}"
        for index in range(PER_LEVEL + 1):
            yield from _residual(f"{block}.resnets.{index}", width, out)
            width = out
        if level < len(DOUBLED):
            up = f"{block}.upsamplers.0"
            yield from _conv(f"{up}.resample.1", out, out // 2, (3, 3))
            if DOUBLED[-1 - level]:
                yield from _conv(f"{up}.time_conv", out, 2 * out, (3, 1, 1))
            width = out // 2
    yield from _head("decoder", width, COLOUR_CHANNELS)


def _middle(half: str, width: int) -> Tensors:
    """Two residual blocks around attention within a frame."""
    attention = f"{half}.mid_block.attentions.0"
    yield f"{attention}.norm.gamma", (width, 1, 1)
    yield from _conv(f"{attention}.to_qkv", width, 3 * width, (1, 1))
    yield from _conv(f"{attention}.proj", width, width, (1, 1))
    for index in range(2):
        yield from _residual(f"{half}.mid_block.resnets.{index}", width, width)


def _head(half: str, width: int, out: int) -> Tensors:
    yield f"{half}.norm_out.gamma", (width, 1, 1, 1)
    yield from _conv(f"{half}.conv_out", width, out)


def _residual(name: str, width: int, out: int) -> Tensors:
    yield f"{name}.norm1.gamma", (width, 1, 1, 1)
    yield from _conv(f"{name}.conv1", width, out)
    yield f"{name}.norm2.gamma", (out, 1, 1, 1)
    yield from _conv(f"{name}.conv2", out, out)
    if width != out:
        yield from _conv(f"{name}.conv_shortcut", width, out, (1, 1, 1))


def _conv(name: str, width: int, out: int, kernel: Shape = (3, 3, 3)) -> Tensors:
    yield f"{name}.weight", (out, width, *kernel)
    yield f"{name}.bias", (out,)
