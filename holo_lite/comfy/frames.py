"""Pixels in ComfyUI's form: IMAGE is a tensor (n, H, W, 3) of floats from 0 to 1. Its PyTorch is ComfyUI's."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

CHANNELS = 3
BRIGHTEST = 255


def frames_of(path: Path, height: int, width: int) -> Any:
    """The frames of a file of bare pixels, 3 bytes each, as an IMAGE. One frame at a time is held twice."""
    import torch

    count = path.stat().st_size // (height * width * CHANNELS)
    size = count * height * width * CHANNELS
    pixels = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    frames = torch.empty((count, height, width, CHANNELS), dtype=torch.float32)
    for frame, read in zip(frames, pixels.view(count, height, width, CHANNELS), strict=True):
        torch.div(read, BRIGHTEST, out=frame)
    return frames


def image_of(path: Path) -> Any:
    """A picture file as an IMAGE of one."""
    import torch
    from PIL import Image

    with Image.open(path) as picture:
        rgb = picture.convert("RGB")
    pixels = torch.frombuffer(bytearray(rgb.tobytes()), dtype=torch.uint8)
    return pixels.view(1, rgb.height, rgb.width, CHANNELS).float() / BRIGHTEST


def png_of(image: Any) -> bytes:
    """One picture (H, W, 3 or 4) of an IMAGE as a PNG."""
    from PIL import Image

    pixels = (image * BRIGHTEST).round().clamp(0, BRIGHTEST).byte().cpu().contiguous()
    height, width, channels = pixels.shape
    mode = "RGBA" if channels == CHANNELS + 1 else "RGB"
    data = bytes(pixels.view(-1).tolist())
    file = io.BytesIO()
    Image.frombytes(mode, (width, height), data).save(file, "PNG")
    return file.getvalue()


def preview_of(path: Path) -> Any:
    """A picture file for the preview on a node; None where it cannot be read just now."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except OSError:
        return None
