"""Small pictures out of a video, each drawn once."""

from __future__ import annotations

from io import BytesIO
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


def shot_of_sheet(sheet: Path, number: int) -> bytes | None:
    """A frame of a shot on a contact sheet, counted from 1, as JPEG; None where there is none.

    Raises `OutputError` for a sheet that cannot be read.
    """
    from PIL import Image

    from holo_lite.film.marks import read_shots
    from holo_lite.reading.files import open_ordinary

    shots = read_shots(sheet)
    if not 1 <= number <= len(shots):
        return None
    left, top, right, bottom = shots[number - 1].box
    found = BytesIO()
    try:
        with open_ordinary(sheet) as file, Image.open(file, formats=["PNG"]) as picture:
            if not (0 <= left < right <= picture.width and 0 <= top < bottom <= picture.height):
                return None
            part = picture.crop((left, top, right, bottom)).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise OutputError(f"{sheet.name}: cannot be read ({error})") from error
    part.save(found, format="JPEG", quality=QUALITY)
    return found.getvalue()


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
