"""Videos, the settings in them, and the pictures that carry the same."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

from holo_lite.errors import HoloError, LaterRecordError, OutputError, RecordError
from holo_lite.inspection.lines import length
from holo_lite.reading.files import open_ordinary, read_bytes
from holo_lite.reading.trees import parse
from holo_lite.settings import BUILT_IN, SETTINGS, RunSettings
from holo_lite.story.files import dump_toml
from holo_lite.views.records import as_written, not_known_here
from holo_lite.views.remaking import check_words, command, to_fill_in


def video(path: Path) -> Iterator[str]:
    """A video of ours: its storyboard, and the command that makes it again. Raises `OutputError`."""
    from holo_lite.film.video import probe, read_metadata

    text, info = read_metadata(path), probe(path)
    size = f"{info.width}×{info.height}, {length(info.frames, float(info.fps))}"
    return remade(path, text, f"# {path.name}: {size}")


def video_settings(path: Path) -> Iterator[str]:
    """The settings of a video in a file of their own. Raises `OutputError`."""
    try:
        text = read_bytes(path).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror})") from error
    return remade(path, text, f"# {path.name}: the settings of a video")


def picture(path: Path) -> Iterator[str]:
    """A contact sheet, a preview, or a sheet of seeds. Raises `OutputError` for any other picture."""
    from holo_lite.film.marks import read_mark

    mark = read_mark(path)
    if mark is None:
        raise OutputError(f"{path}: {_other_picture(path)}, without settings of a holo-lite run in it")
    seeds, text = _of_seeds(mark)
    what = "a preview of the video" if path.stem.endswith("-preview") else "the contact sheet of a video"
    if seeds is not None:
        what = f"a sheet of drafts with the seeds {', '.join(map(str, seeds))}; the settings are the first one's"
    return remade(path, text, f"# picture {path.name}: {what}")


def remade(path: Path, text: str, first: str) -> Iterator[str]:
    """The first line, then how to make it again, of settings as JSON. Raises `OutputError`."""
    try:
        settings = SETTINGS.read(text, to_run=False)
        check_words(settings)
    except LaterRecordError:
        return iter((first, *as_written(text)))
    except RecordError as error:
        raise OutputError(f"{path}: carries no settings of a holo-lite run ({error})") from error
    except HoloError as error:
        raise OutputError(f"{path}: {error}") from error
    # The negative prompt goes into the file: not every shell can quote it.
    board = dataclasses.replace(settings.storyboard, negative=settings.negative)
    return iter((first, *_made(settings), "", *dump_toml(board).splitlines()))


def _made(settings: RunSettings) -> Iterator[str]:
    yield f"# made with {settings.made_with}, {settings.dtype} on {settings.device}, model {settings.model}"
    folder = "" if settings.model.startswith(BUILT_IN) else ", with this model's folder for FOLDER"
    yield f"# save the lines below as storyboard.toml, then type{folder}:"
    yield f"#   {command(settings)}"
    yield from (f"# {note}" for note in to_fill_in(settings))
    yield from (f"# {line}" for line in not_known_here(settings.origin, SETTINGS.current))


def _of_seeds(mark: str) -> tuple[list[int] | None, str]:
    """The seeds of a sheet of drafts and the settings of its first; of any other mark no seeds, and itself."""
    try:
        found = parse(mark)
    except RecordError:
        return None, mark
    if not isinstance(found, dict) or not {"seeds", "settings"} <= found.keys():
        return None, mark
    seeds = found["seeds"] if isinstance(found["seeds"], list) else []
    return [seed for seed in seeds if type(seed) is int], json.dumps(found["settings"])


def _other_picture(path: Path) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        with open_ordinary(path) as file, Image.open(file, formats=["PNG"]) as picture:
            return f"a PNG picture, {picture.width}×{picture.height}"
    except (UnidentifiedImageError, SyntaxError, ValueError, OSError, Image.DecompressionBombError):
        return "a damaged picture, or one that is not PNG"
