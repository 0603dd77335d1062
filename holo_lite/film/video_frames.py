"""The frames of a video, decoded one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from holo_lite.errors import OutputError
from holo_lite.reading.files import open_ordinary


def video_frames(path: Path) -> Iterator[npt.NDArray[np.uint8]]:
    """Frames (H, W, 3), uint8 RGB, from the first on. Raises `OutputError` for what is no video, or damaged."""
    try:
        open_ordinary(path).close()
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise OutputError(f"{path}: holds no video that can be shown")
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror})") from error
    except (av.FFmpegError, ValueError) as error:
        raise OutputError(f"{path}: is not a video, or is damaged") from error
