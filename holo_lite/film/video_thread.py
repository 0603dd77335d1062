"""Frames are encoded in a thread of their own, while the next one is decoded.

Converting and compressing a frame leaves the interpreter's lock alone. Frames reach the encoder in the order in
which they came, and the file is the same to the bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from holo_lite.film.video import VideoWriter

if TYPE_CHECKING:
    from holo_lite.film.video import Pixels

MOST_WAITING = 4  # frames; more would be memory for nothing, since the slower of the two sets the pace


@contextmanager
def encoding_behind(writer: VideoWriter) -> Iterator[VideoThread]:
    """Open a writer and give what takes frames for it; on leaving, the video is whole or not there.

    Raises what the writer raises.
    """
    with writer, closing(VideoThread(writer.add)) as thread:
        yield thread
        thread.finish()


class VideoThread:
    """Calls `encode` with one frame after the other, behind the caller's back. `close` it."""

    def __init__(self, encode: Callable[[Pixels], None]) -> None:
        self._encode = encode
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="video")
        self._waiting: deque[Future[None]] = deque()

    def add(self, frame: Pixels) -> None:
        """Take one frame, as `VideoWriter.add`; it may be changed afterwards. Waits while too many are waiting.

        Raises what encoding an earlier frame raised.
        """
        own = frame.clone() if isinstance(frame, torch.Tensor) else np.array(frame)
        self._waiting.append(self._thread.submit(self._encode, own))
        while self._waiting and (len(self._waiting) > MOST_WAITING or self._waiting[0].done()):
            self._waiting.popleft().result()

    def finish(self) -> None:
        """Wait until every frame is encoded. Raises what encoding one of them raised."""
        while self._waiting:
            self._waiting.popleft().result()

    def close(self) -> None:
        """Forget the frames that wait, and end the thread."""
        self._thread.shutdown(cancel_futures=True)
