"""Reading images from disk into buffers, by calls and not through page faults.

A page fault stops the thread for every 4 kB, reads no further than the kernel guesses, and counts as the process's
memory. A call reads a whole piece straight into the buffer it is wanted in.

Somebody may want to see what is read, to hash it: a witness, who is shown the bytes where they lie. The buffer is
not read into again before the witness is done.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

from torch import Tensor

from holo_lite.streaming.image import BlockImage
from holo_lite.streaming.lane import Buffer
from holo_lite.weights.calls import OpenFiles, bytes_of

Witness = Callable[[Path, Sequence[tuple[int, memoryview]]], Future[None] | None]


def nobody(_path: Path, _read: Sequence[tuple[int, memoryview]]) -> None:
    """No witness."""


class DiskReader(OpenFiles):
    """Reads pieces of files and keeps the files open. Use it from one thread at a time.

    `witness` is shown what was read of a file, each with its place there, and says until when it looks at it.
    """

    def __init__(self, witness: Witness = nobody) -> None:
        super().__init__()
        self._witness = witness

    def bring(self, image: BlockImage, host: Buffer) -> None:
        """Read an image into a host buffer, once nobody looks at that any more, and show it. Raises as `read`."""
        for seen in host.seen:
            seen.result()
        host.seen = ()
        self.read(image, host.data)
        host.seen = tuple(filter(None, self._shown(image, host.data)))

    def _shown(self, image: BlockImage, buffer: Tensor) -> Iterator[Future[None] | None]:
        target, files = bytes_of(buffer), defaultdict[Path, list[tuple[int, memoryview]]](list)
        for piece in image.pieces:
            files[piece.path].append((piece.offset, target[piece.place : piece.place + piece.nbytes]))
        for path, read in files.items():
            yield self._witness(path, read)

    def read(self, image: BlockImage, buffer: Tensor) -> None:
        """Fill the front of a uint8 CPU buffer with an image. Raises `CheckpointError` if the file fell short."""
        target = bytes_of(buffer)
        for piece in image.pieces:
            self.fill(piece.path, piece.offset, target[piece.place : piece.place + piece.nbytes])
