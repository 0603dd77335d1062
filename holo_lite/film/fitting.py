"""A picture of any shape as a frame of a video: scaled to cover it, and cut at the centre."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
ALIKE = 0.01  # shares of the picture; what is cut off below that nobody would miss


def covering(picture: Image.Image, height: int, width: int) -> Pixels:
    """Pixels (height, width, 3) of an RGB picture."""
    scale = max(width / picture.width, height / picture.height)
    scaled = max(width, round(picture.width * scale)), max(height, round(picture.height * scale))
    large = picture if scaled == picture.size else picture.resize(scaled, Image.Resampling.LANCZOS)
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    return np.array(large.crop((left, top, left + width, top + height)), dtype=np.uint8)


def cut_off(size: tuple[int, int], height: int, width: int) -> str | None:
    """What is lost of a picture (width, height) that is to cover a frame, for a person; None: next to nothing."""
    share = (size[0] / size[1]) / (width / height)
    lost = 1 - min(share, 1 / share)
    if lost < ALIKE:
        return None
    sides = "left and right" if share > 1 else "above and below"
    return f"{size[0]}×{size[1]} is not the shape of {width}×{height}: {lost:.0%} of it is cut off {sides}"
