"""Reading images from disk into buffers, by calls and not through page faults.

A page fault stops the thread for every 4 kB, reads no further than the kernel guesses, and counts as the process's
memory. A call reads a whole piece straight into the buffer it is wanted in.
"""

from __future__ import annotations

from torch import Tensor

from holo_lite.streaming.image import BlockImage
from holo_lite.weights.calls import OpenFiles, bytes_of


class DiskReader(OpenFiles):
    """Reads pieces of files and keeps the files open. Use it from one thread at a time."""

    def read(self, image: BlockImage, buffer: Tensor) -> None:
        """Fill the front of a uint8 CPU buffer with an image. Raises `CheckpointError` if the file fell short."""
        target = bytes_of(buffer)
        for piece in image.pieces:
            self.fill(piece.path, piece.offset, target[piece.place : piece.place + piece.nbytes])
