"""The videos of a folder: what they are, by the settings that they carry, and a small picture of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holo_lite.errors import HoloError, OutputError
from holo_lite.settings import SETTINGS, RunSettings
from holo_lite.web.shelf import id_of
from holo_lite.web.stills import still
from holo_lite.worker.client import Record

LATENTS = ".latents.safetensors"
PREVIEW = "-preview"


@dataclass(frozen=True)
class GalleryVideo:
    """A video: its file, what is known of it, and the settings that it carries (None: not ours, or later ones)."""

    id: str
    path: Path
    stamp: tuple[int, int]  # size and time of change
    record: Record
    settings: RunSettings | None


class Gallery:
    """Videos by their ids. Files are read again only where they changed. Not for several threads at once."""

    def __init__(self, folder: Path, posters: Path) -> None:
        self._folder, self._posters = folder, posters
        self._known: dict[str, GalleryVideo] = {}

    def look(self) -> bool:
        """Look at the folder. Returns whether anything has changed."""
        found = {path: stamp for path in _videos(self._folder) if (stamp := _stamp(path)) is not None}
        before = {each.path: each for each in self._known.values()}
        known: dict[str, GalleryVideo] = {}
        for path, stamp in found.items():
            old = before.get(path)
            video = old if old is not None and old.stamp == stamp else self._read(path, stamp)
            if video is not None:
                known[video.id] = video
        changed = {each.id: each.stamp for each in known.values()} != {e.id: e.stamp for e in self._known.values()}
        self._known = known
        return changed

    def records(self) -> list[Record]:
        """All videos, the newest first."""
        return [each.record for each in sorted(self._known.values(), key=lambda each: -each.stamp[1])]

    def get(self, video: str) -> GalleryVideo:
        """The video of an id. Raises `OutputError`."""
        found = self._known.get(video)
        if found is None or not found.path.is_file():
            raise OutputError("this video is not there any more")
        return found

    def poster(self, video: GalleryVideo) -> Path:
        """A picture of its first frame, made once. Raises `OutputError`."""
        return still(video.path, 0, self._posters / f"{video.id}-{video.stamp[1]}.jpg")

    def shot(self, video: GalleryVideo, number: str) -> Path | None:
        """A picture of the middle of a shot, made once; None for a shot that is not there. Raises `OutputError`."""
        found = next((each for each in video.record["shots"] if str(each["number"]) == number), None)
        if found is None:
            return None
        middle = (found["first"] + found["end"]) // 2
        return still(video.path, middle, self._posters / f"{video.id}-{video.stamp[1]}-{found['number']}.jpg")

    def delete(self, video: GalleryVideo) -> None:
        """Move a video and what belongs to it to the system's trash. Raises `OutputError`."""
        from send2trash import TrashPermissionError, send2trash

        beside = (video.path.with_suffix(".png"), Path(f"{video.path.with_suffix('')}{LATENTS}"))
        own = [path for path in beside if path.is_file()] if video.settings is not None else []
        try:
            for path in (video.path, *own):
                send2trash(path)
        except (OSError, TrashPermissionError) as error:
            raise OutputError(f"{video.path.name}: cannot be moved to the trash ({error})") from error

    def _read(self, path: Path, stamp: tuple[int, int]) -> GalleryVideo | None:
        from holo_lite.film.video import probe

        try:
            info = probe(path)
        except OutputError:
            return None
        settings = _settings(path)
        name = id_of(path)
        sheet = path.with_suffix(".png").is_file() and settings is not None
        record: dict[str, Any] = {
            "id": name,
            "name": path.name,
            "frames": info.frames,
            "fps": float(info.fps),
            "seconds": info.duration,
            "width": info.width,
            "height": info.height,
            "url": f"/gallery/{name}/video?{stamp[1]}",
            "poster": f"/gallery/{name}/poster?{stamp[1]}",
            "sheet": f"/gallery/{name}/sheet?{stamp[1]}" if sheet else None,
            "when": stamp[1] / 1e9,
            "bytes": stamp[0],
            "ours": settings is not None,
            "shots": list(_shots(settings, name, stamp)) if settings is not None else [],
            "facts": list(_facts(settings)) if settings is not None else [],
            "latents": Path(f"{path.with_suffix('')}{LATENTS}").is_file(),
        }
        return GalleryVideo(name, path, stamp, record, settings)


def _videos(folder: Path) -> Iterator[Path]:
    try:
        for path in folder.iterdir():
            if path.suffix.lower() == ".mp4" and not path.name.startswith(".") and path.is_file():
                yield path.absolute()
    except OSError:
        return


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of change; None for what is gone or empty."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns) if found.st_size else None


def _settings(path: Path) -> RunSettings | None:
    from holo_lite.film.video import read_metadata

    try:
        return SETTINGS.read(read_metadata(path), to_run=False)
    except HoloError:
        return None


def _shots(settings: RunSettings, video: str, stamp: tuple[int, int]) -> Iterator[Record]:
    spans = zip(settings.shown.shot_frames, settings.shown_captions, strict=True)
    for number, ((first, end), caption) in enumerate(spans, start=1):
        address = f"/gallery/{video}/shot-{number}?{stamp[1]}"
        yield {"number": number, "first": first, "end": end, "caption": caption, "still": address}


def _facts(settings: RunSettings) -> Iterator[tuple[str, str]]:
    """What a person may want to know of how it was made."""
    yield "seed", str(settings.seed)
    yield "steps", str(settings.steps)
    yield "guidance", f"{settings.cfg:g}"
    yield "model", settings.model
    yield "attention", settings.attention
    yield "computed", f"{settings.dtype} on {settings.device}"
    yield "made with", settings.made_with
    for each in settings.lora:
        yield "adapter", f"{each.file}, {each.expert.replace('_', ' ')}, strength {each.strength:g}"
    if settings.negative:
        yield "negative prompt", settings.negative
