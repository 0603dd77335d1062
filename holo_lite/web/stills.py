"""Small pictures out of a video, each drawn once."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from holo_lite.errors import OutputError

LARGEST = 480, 270  # pixels
QUALITY = 85


def still(video: Path, frame: int, path: Path) -> Path:
    """The picture of a frame, counted from 0, as JPEG at `path`. Raises `OutputError`."""
    if not path.is_file():
        _draw(video, frame, path)
    return path


def _draw(video: Path, frame: int, path: Path) -> None:
    from PIL import Image

    from holo_lite.film.video_frames import video_frames
    from holo_lite.system.whole_files import draft

    found = next(islice(video_frames(video), frame, None), None)
    if found is None:
        raise OutputError(f"{video.name}: has no frame {frame}")
    picture = Image.fromarray(found)
    picture.thumbnail(LARGEST)
    path.parent.mkdir(parents=True, exist_ok=True)
    with draft(path) as partial:
        picture.save(partial, format="JPEG", quality=QUALITY)
