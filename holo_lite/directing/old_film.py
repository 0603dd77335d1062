"""A video that was made before, as what a new one begins from: its settings, its shots, and its latents.

The shots of its clip are those of its memory, which it does not show, and then those that it shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from PIL import Image

from holo_lite.directing.given import EncodedFrames, Frames, KeptLatents, Source
from holo_lite.errors import LaterRecordError, OutputError, RecordError, SettingsError
from holo_lite.film.fitting import Pixels, covering
from holo_lite.film.video import read_metadata
from holo_lite.film.video_frames import video_frames
from holo_lite.reading.files import open_ordinary
from holo_lite.runs.kept_latents import check_latents, latents_path
from holo_lite.settings import RunSettings


@dataclass(frozen=True)
class OldFilm:
    """A finished video and the settings it carries. kept: the file of its latents; None: there is none."""

    path: Path
    settings: RunSettings
    kept: Path | None

    @classmethod
    def read(cls, path: Path) -> OldFilm:
        """Read a video's settings and look for its latents.

        Raises `OutputError` for a file that is no video of ours, or whose latents are another clip's or damaged.
        """
        try:
            settings = RunSettings.from_json(read_metadata(path))
        except LaterRecordError as error:
            raise OutputError(f"{path}: {error}") from error
        except RecordError as error:
            raise OutputError(f"{path}: its settings are damaged ({error}); name another video") from error
        except OutputError as error:
            raise OutputError(f"{error}; name a video that holo-lite made") from error
        kept = latents_path(path)
        if not kept.exists():
            return cls(path, settings, None)
        check_latents(kept, settings)
        return cls(path, settings, kept)

    @property
    def memory(self) -> int:
        """How many shots of its clip it does not show."""
        return self.settings.frozen.memory

    @property
    def shots(self) -> int:
        """How many shots it shows."""
        return self.settings.layout.shots - self.memory

    @property
    def captions(self) -> list[str]:
        """One caption a shot of its clip, those that are not shown first."""
        return [*(each.caption for each in self.settings.storyboard.memory), *self.settings.shown_captions]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of it."""
        if self.kept is not None:
            return ()
        name = latents_path(self.path).name
        return (f"{name} is not there: {self.path.name} itself is encoded again, which loses a little",)

    def place(self, number: int) -> int:
        """The place in its clip, from 0, of a shot that it shows. Raises `SettingsError` where there is none."""
        if not 1 <= number <= self.shots:
            has = "one shot" if self.shots == 1 else f"shots 1 to {self.shots}"
            raise SettingsError(f"shot {number}: {self.path.name} has {has}; give the number of one")
        return self.memory + number - 1

    def latent_frames(self, place: int) -> range:
        """Latent frames of a shot of its clip."""
        return self.settings.layout.frame_span(place)

    def fingerprint(self) -> str:
        """A hash of what its latents are taken from."""
        with open_ordinary(self.kept or self.path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def source(self, frames: Sequence[int], size: tuple[int, int]) -> Source:
        """Latent frames of its clip for one of a size (height, width): kept, or of its own frames, encoded again.

        Raises `OutputError` for frames of its memory, which it does not show, where no latents can be used.
        """
        is_alike = size == (self.settings.height, self.settings.width)
        if self.kept is not None and is_alike:
            return KeptLatents(self.kept, self.settings, tuple(frames))
        hidden = self.latent_frames(self.memory).start
        if any(frame < hidden for frame in frames):
            why = f"put {latents_path(self.path).name} back, which is gone" if is_alike else "give its own size"
            raise OutputError(f"{self.path}: a shot is wanted that it was made with and does not show; {why}")
        first = (
            1 if hidden else 0
        )  # the encoder's first latent frame holds one frame, which no shot here begins with
        places = tuple(frame - hidden + first for frame in frames)
        pictures = first + self.settings.shown.num_frames
        return EncodedFrames(lambda: self._frames(first, *size), pictures, places)

    def _frames(self, repeated: int, height: int, width: int) -> Frames:
        """What it shows, behind its first frame so many times more. Raises `OutputError`."""
        shown = islice(video_frames(self.path), self.settings.frozen.before, None)
        begin = list(islice(shown, 1))
        for pixels in chain(begin * (repeated + 1), shown):
            yield _fitted(pixels, height, width)


def _fitted(pixels: Pixels, height: int, width: int) -> Pixels:
    """A frame of another size, scaled to cover this one."""
    return pixels if pixels.shape[:2] == (height, width) else covering(Image.fromarray(pixels), height, width)
