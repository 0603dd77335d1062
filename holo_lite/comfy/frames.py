"""Pixels in ComfyUI's form: IMAGE is a tensor (n, H, W, 3) of floats from 0 to 1. Its PyTorch is ComfyUI's."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from .handles import NodeError

CHANNELS = 3
BRIGHTEST = 255


def frames_of(path: Path, height: int, width: int) -> Any:
    """The frames of a file of bare pixels, 3 bytes each, as an IMAGE. One frame at a time is held twice."""
    import torch

    one = height * width * CHANNELS
    frames = torch.empty((path.stat().st_size // one, height, width, CHANNELS), dtype=torch.float32)
    read = bytearray(one)
    pixels = torch.frombuffer(read, dtype=torch.uint8).view(height, width, CHANNELS)
    with path.open("rb") as file:
        for frame in frames:
            if file.readinto(read) < one:
                raise NodeError(f"{path}: ended early; it changed while it was in use")
            torch.div(pixels, BRIGHTEST, out=frame)
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
