"""Frames to an mp4 that is either whole or not there.

The film is written under a temporary name in its own folder and renamed when it is complete, so no program finds
half a video under the name they asked for. How it was made travels inside, as JSON in the ``comment`` tag.

RGB becomes BT.709, with the tags that say so. Left alone, swscale converts by BT.601 and says nothing, and
players that take the film for BT.709 shift its colours.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import PictureType
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from holo_lite.errors import OutputError, RecordError
from holo_lite.reading.files import open_ordinary
from holo_lite.reading.trees import parse
from holo_lite.system import outputs
from holo_lite.system.whole_files import Draft, make_folder

PIECE = 2**20  # bytes read at once
CRF = "18"  # constant quality: to the eye like the source
SEEKABLE = 2  # seconds between key frames at most: what a player that seeks has to decode
# x264's macroblock tree gives other bits from run to run, at every size; without it a film can be made again.
# Groups of pictures are closed: no frame behind a key frame needs one before it.
X264 = "mbtree=0:open-gop=0"
BT709 = {
    "dst_colorspace": Colorspace.ITU709,
    "dst_color_range": ColorRange.MPEG,
    "dst_color_primaries": ColorPrimaries.BT709,
    "dst_color_trc": ColorTrc.BT709,
}

if TYPE_CHECKING:
    import torch

    Pixels = torch.Tensor | npt.NDArray[np.uint8]


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself. `fps` in frames per second, `duration` in seconds."""

    frames: int
    width: int
    height: int
    fps: Fraction
    duration: float


class VideoWriter:
    """Write H.264 (yuv420p, index in front) frame by frame; a context manager.

    `width` and `height` in pixels must be even; an `fps` such as 23.976 is taken as the nearest fraction with
    a denominator up to 1001. `cuts` are the first frames of all shots but the first: there, and at most two seconds
    apart, are key frames, to which a player can jump. `metadata` is a JSON object of any length. The file appears
    under `path` only when the ``with`` block ends well; after any exception, Ctrl-C included, nothing is left.
    Entering, adding and leaving raise `OutputError` when the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        fps: float | Fraction,
        cuts: Iterable[int] = (),
        metadata: str | None = None,
    ) -> None:
        self.path = path
        self._size = (width, height)
        self._fps = Fraction(fps).limit_denominator(1001)
        self._cuts = frozenset(cuts)
        self._metadata = metadata
        self._draft = Draft(path)
        self._frames = 0
        self._container: Any = None
        self._stream: Any = None
        self._failed = False  # FFmpeg ends the process where a muxer that failed is given more

    def __enter__(self) -> Self:
        check_writable(self.path)
        try:
            self._open()
        except BaseException:
            self._discard()
            raise
        return self

    def _open(self) -> None:
        with writing(self.path):
            self._draft.begin()
            self._container = av.open(
                str(self._draft.partial), "w", format="mp4", options={"movflags": "faststart"}
            )
        if self._metadata is not None:
            self._container.metadata["comment"] = self._metadata
        self._stream = self._container.add_stream(
            "libx264", rate=self._fps, options={"crf": CRF, "x264-params": X264, "forced-idr": "1"}
        )
        self._stream.codec_context.gop_size = max(1, int(SEEKABLE * self._fps))
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        _tag_bt709(self._stream.codec_context)

    def add(self, frame: Pixels) -> None:
        """Append one frame: (height, width, 3), uint8 RGB, a NumPy array or a CPU tensor."""
        pixels = np.ascontiguousarray(frame if isinstance(frame, np.ndarray) else frame.numpy())
        assert pixels.shape == (self._size[1], self._size[0], 3), f"a frame of shape {pixels.shape}"
        picture = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p", **BT709)
        picture.pts, picture.time_base = self._frames, 1 / self._fps
        if self._frames in self._cuts:
            picture.pict_type = PictureType.I
        self._frames += 1
        self._mux(picture)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._discard()

    def _mux(self, picture: Any = None) -> None:
        """Encode a frame, or with None the last ones. After one failure every call raises `OutputError`."""
        if self._failed:
            raise OutputError(f"{self.path}: cannot be written since an earlier frame failed; free some space")
        self._failed = True
        with writing(self.path):
            self._container.mux(self._stream.encode(picture))
        self._failed = False

    def _finish(self) -> None:
        self._mux()
        with writing(self.path):
            self._container.close()
            self._draft.keep()

    def _discard(self) -> None:
        """Remove the temporary file, if it still bears its name. The disk may be full: closing may fail."""
        with contextlib.suppress(av.FFmpegError, OSError):
            if self._container is not None:
                self._container.close()
        self._draft.discard()


def check_writable(path: Path) -> None:
    """Make sure, before any work, that a video can be written at `path`; its folder is created.

    Raises `OutputError` for another suffix than .mp4, for a folder, and where no file can be created.
    """
    if path.suffix.lower() != ".mp4":
        raise OutputError(f"{path}: a video is written as .mp4; name it {path.stem or 'video'}.mp4")
    with writing(path):
        if path.is_dir():
            raise OutputError(f"{path}: is a folder; name a file in it")
        make_folder(path.parent)
        tempfile.TemporaryFile(dir=path.parent).close()


def is_blank(path: Path) -> bool:
    """Whether a file holds nothing: no byte, or zeros alone, which is what a power cut can leave of one.

    Raises `OutputError` if it cannot be read.
    """
    try:
        with open_ordinary(path) as file:
            while piece := file.read(PIECE):
                if piece.count(0) != len(piece):
                    return False
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror})") from error
    return True


def read_metadata(path: Path) -> str:
    """Return the JSON that `VideoWriter` put into a video.

    Raises `OutputError` when the file is missing, is not a video, or holds no such JSON.
    """
    with reading(path) as container:
        comment = str(container.metadata.get("comment", ""))
    try:
        if isinstance(parse(comment), dict):
            return comment
    except RecordError as error:
        raise OutputError(f"{path}: carries no holo-lite metadata") from error
    raise OutputError(f"{path}: carries no holo-lite metadata")


def probe(path: Path) -> VideoInfo:
    """Return a video's measures without decoding it. Raises `OutputError` as `read_metadata` does."""
    with reading(path) as container:
        stream = container.streams.video[0] if container.streams.video else None
        if stream is None or stream.codec_context is None:
            raise OutputError(f"{path}: holds no video that can be shown")
        try:
            fps = Fraction(stream.average_rate or stream.base_rate or 0)
            duration = float((stream.duration or 0) * (stream.time_base or 0))
        except (ArithmeticError, ValueError) as error:
            raise OutputError(f"{path}: is damaged: its frame rate is no number") from error
        return VideoInfo(stream.frames, stream.width, stream.height, fps, duration)


def _tag_bt709(codec: Any) -> None:
    codec.colorspace, codec.color_range = int(Colorspace.ITU709), int(ColorRange.MPEG)
    codec.color_primaries, codec.color_trc = int(ColorPrimaries.BT709), int(ColorTrc.BT709)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system or FFmpeg says about a failed write into one line. Raises `OutputError`."""
    try:
        with outputs.writing(path):
            yield
    except av.FFmpegError as error:
        raise outputs.failed_write(path, error.errno, error.strerror) from error


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Any]:
    """Open a video to read it. Raises `OutputError` for what cannot be read, is no video, or is damaged."""
    try:
        open_ordinary(path).close()
        # Tags are somebody's bytes; those that are no UTF-8 shall not be in the way of the others.
        with av.open(str(path), metadata_errors="replace") as container:
            yield container
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror})") from error
    except (av.FFmpegError, ValueError) as error:
        raise OutputError(f"{path}: is not a video, or is damaged") from error
