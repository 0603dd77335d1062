"""Where frames go: into an mp4 with its contact sheet, into memory, or into a raw file for another process.

A sink may be begun more than once: where memory runs out, decoding starts again in smaller tiles, and frames of the
attempt before must be forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from holo_lite.errors import OutputError
from holo_lite.events import Finished
from holo_lite.film.contact_sheet import ContactSheet
from holo_lite.film.video import VideoWriter, check_writable
from holo_lite.film.video_thread import encoding_behind
from holo_lite.reading.values import wrong
from holo_lite.runs.kept_latents import latents_path, write_latents
from holo_lite.settings import RunSettings
from holo_lite.system.whole_files import draft, sweep

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

AddFrame = Callable[[int, Tensor], None]  # a frame's number, and its pixels: (H, W, 3) uint8 on the CPU


class FrameSink(Protocol):
    """What takes the frames of a clip, in order."""

    def check(self) -> None:
        """Raise `OutputError` if frames cannot go there; asked before any weight is read."""

    def begin(self, settings: RunSettings) -> AbstractContextManager[AddFrame]:
        """Take a clip from its first frame on. On leaving it is whole; after an exception there is nothing."""

    def finished(self, settings: RunSettings) -> Finished:
        """The event that ends a run whose frames are all taken."""


@dataclass(frozen=True)
class FilmSink:
    """An mp4 that carries its settings, and a contact sheet and its latents next to it. latents: None: not kept.

    raw: the same frames without the loss of a video, too, as `RawSink` writes them; None: not wanted.
    """

    video: Path
    sheet: Path
    latents: Path | None = None
    raw: Path | None = None

    @classmethod
    def at(cls, video: str | Path, *, latents: bool = True, raw: Path | None = None) -> FilmSink:
        """A video at this path, and files of the same name; without its latents, if they are not wanted."""
        video = Path(video)
        return cls(video, video.with_suffix(".png"), latents_path(video) if latents else None, raw)

    def check(self) -> None:
        """Raise `OutputError` where any of it cannot be written."""
        check_writable(self.video)
        if self.raw is not None:
            RawSink(self.raw).check()
        if self.sheet.is_dir():
            raise OutputError(
                f"{self.sheet}: is a folder, but the contact sheet would be written there; choose another --out"
            )
        if self.latents is not None and self.latents.is_dir():
            raise OutputError(
                f"{self.latents}: is a folder, but the latents would be written there; choose another --out"
            )

    def __str__(self) -> str:
        return str(self.video)

    @contextmanager
    def begin(self, settings: RunSettings) -> Iterator[AddFrame]:
        """Encode each frame while the next is decoded. Raises `OutputError` when a file cannot be written."""
        for film in (self.video, self.sheet):
            sweep(film)  # what a run that was killed left of them
        shown = settings.shown
        contacts = ContactSheet(shown.shot_frames, settings.shown_captions, fps=settings.fps)
        size = {"width": settings.width, "height": settings.height}
        writer = VideoWriter(self.video, **size, fps=settings.fps, cuts=shown.cuts, metadata=settings.to_json())
        with self._also(settings) as also, encoding_behind(writer) as video:

            def add(index: int, pixels: Tensor) -> None:
                video.add(pixels)
                contacts.add(index, pixels)
                also(index, pixels)

            yield add
        contacts.save(self.sheet, settings.to_json())

    def _also(self, settings: RunSettings) -> AbstractContextManager[AddFrame]:
        """Where frames go besides; the file has its name after the video has."""
        return nullcontext(_nowhere) if self.raw is None else RawSink(self.raw).begin(settings)

    def keep_latents(self, latents: Tensor, settings: RunSettings) -> None:
        """Write the latents (16, F, h, w) of the video, if they are to be kept. Raises `OutputError`."""
        if self.latents is not None:
            sweep(self.latents)
            write_latents(self.latents, latents, settings)

    def finished(self, settings: RunSettings) -> Finished:
        """All files have their names."""
        return Finished(self.video, self.sheet, settings)


@dataclass
class MemorySink:
    """All frames in main memory: 3 bytes a pixel, 289 MB for 241 frames of 480x832."""

    frames: list[Tensor] = field(default_factory=list, repr=False)

    def __str__(self) -> str:
        return f"{len(self.frames)} frames in memory"

    def check(self) -> None:
        """Memory can always be asked for."""

    @contextmanager
    def begin(self, settings: RunSettings) -> Iterator[AddFrame]:  # noqa: ARG002 - as every sink takes them
        """Forget what was there, and keep a copy of every frame."""
        self.frames.clear()
        yield lambda _, pixels: self.frames.append(pixels.clone())

    def finished(self, settings: RunSettings) -> Finished:
        """There are no files."""
        return Finished(None, None, settings)

    def tensor(self) -> Tensor:
        """The clip as (n, H, W, 3) uint8."""
        return torch.stack(self.frames)

    def numpy(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The clip as a NumPy array (n, H, W, 3) uint8."""
        array: np.ndarray[Any, np.dtype[np.uint8]] = self.tensor().numpy()
        return array

    def images(self) -> list[Image.Image]:
        """The clip as Pillow images."""
        from PIL import Image

        return [Image.fromarray(frame.numpy()) for frame in self.frames]


@dataclass(frozen=True)
class RawSink:
    """A file of bare pixels: frame after frame, rows from the top, 3 bytes a pixel in the order red, green, blue.

    ``ffmpeg -f rawvideo -pix_fmt rgb24 -s WIDTHxHEIGHT -r FPS -i FILE`` reads it. The file appears under its name
    when it is whole.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def check(self) -> None:
        """Raise `OutputError` where no file can be written."""
        if self.path.is_dir() or not self.path.parent.is_dir():
            raise OutputError(f"{self.path}: no file can be written there; name one in a folder that exists")

    @contextmanager
    def begin(self, settings: RunSettings) -> Iterator[AddFrame]:  # noqa: ARG002 - as every sink takes them
        """Write each frame as it comes. Raises `OutputError` when the file cannot be written."""
        try:
            with draft(self.path) as partial, partial.open("wb") as file:
                yield lambda _, pixels: _write(file.write, pixels)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror}); choose another place") from error

    def finished(self, settings: RunSettings) -> Finished:
        """The file has its name; it is no video yet."""
        return Finished(None, None, settings)


def _nowhere(index: int, pixels: Tensor) -> None:
    """Keep no frame."""


def _write(write: Callable[[bytes], int], pixels: Tensor) -> None:
    write(pixels.contiguous().numpy().tobytes())


def sink_of(out: str | Path | FrameSink) -> FrameSink:
    """The sink a person names: a path is an mp4. Raises `SettingsError` for what is neither."""
    if isinstance(out, str | Path):
        return FilmSink.at(out)
    if not hasattr(out, "begin"):
        raise wrong("out", out, "the path of an .mp4, or what takes frames, such as MemorySink()")
    return out
