"""Hashes of files, several at a time: of the bytes that a run reads of them anyway, or of the file itself.

Who reads a file into memory to use it says what was read, and that is hashed where it lies. Then the file is not
read a second time, and what is hashed is what is used. Of a file that nobody has read so, all is read here.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from pathlib import Path

from holo_lite.errors import CheckpointError
from holo_lite.weights.stamps import Stamp

PIECE = 4 * 2**20  # bytes hashed at once, without the interpreter's lock
SHARE, MOST_HANDS = 4, 4  # one core in SHARE hashes, at most MOST_HANDS

Part = tuple[int, memoryview]  # bytes of a file, and the place in it where they begin
Add = Callable[[memoryview], None]


def hands() -> int:
    """How many files are hashed at a time."""
    return min(MOST_HANDS, max(1, (os.cpu_count() or 1) // SHARE))


class Hasher:
    """Hashes each file that it is told of once, until one is found that is not what was written.

    `whole` are the files that were found whole. `fault` is what is wrong with the first file that is not.
    """

    def __init__(self, whole: set[Stamp]) -> None:
        self.fault: CheckpointError | None = None
        self._whole, self._stopped = whole, False
        self._pool = ThreadPoolExecutor(hands(), "audit")
        self._expected: dict[Path, tuple[Stamp, str]] = {}
        self._under_way: dict[Path, Future[None]] = {}
        self._beginning = threading.Lock()

    def expect(self, seen: Stamp, sha256: str) -> None:
        """This file is to have that hash."""
        self._expected.setdefault(seen[0], (seen, sha256))

    def hash(self, path: Path, read: Sequence[Part] = ()) -> Future[None] | None:
        """Begin to hash a file, unless it was begun before or is known to be whole.

        `read` is what is in memory of it, in any order. It must stay as it is until the future is done.
        """
        with self._beginning:
            if not self._is_wanted(path):
                return None
            seen, _ = self._expected[path]
            found = self._under_way[path] = self._pool.submit(self._look_at, seen, sorted(read, key=_place))
            return found

    def wait(self, paths: Iterable[Path]) -> None:
        """Wait until these files are hashed; of those that nobody has read, it begins now."""
        paths = list(paths)
        for path in paths:
            self.hash(path)
        for path in paths:
            if path in self._under_way:
                self._under_way[path].result()

    def look_again(self, now: Stamp) -> None:
        """Hash a file once more, as it is now."""
        _, sha256 = self._expected[now[0]]
        self._expected[now[0]] = now, sha256
        self._look_at(now, ())

    def give_up(self) -> None:
        """Have it end; nothing is found whole any more."""
        with self._beginning:
            self._stopped = True

    def stop(self) -> None:
        """End it, and wait until it has."""
        self.give_up()
        self._pool.shutdown()

    def _is_wanted(self, path: Path) -> bool:
        if path in self._under_way or path not in self._expected or self._stopped or self.fault is not None:
            return False
        return self._expected[path][0] not in self._whole

    def _look_at(self, seen: Stamp, read: Sequence[Part]) -> None:
        if self._stopped or self.fault is not None:
            return
        path, sha256 = seen[0], self._expected[seen[0]][1]
        try:
            found = self._hash(path, read)
        except OSError as error:
            self.fault = CheckpointError(f"{path}: cannot be read ({error.strerror}); check the disk")
            return
        if found == sha256:
            self._whole.add(seen)
        elif found is not None:
            self.fault = CheckpointError(
                f"{path}: has changed since it was written (its sha256 differs); "
                "copy the file again, or convert the model again into an empty folder"
            )

    def _hash(self, path: Path, read: Sequence[Part]) -> str | None:
        """The sha256 of a file, of which only what is not in memory is read; None if it is no longer needed."""
        digest, end = hashlib.sha256(), 0
        with path.open("rb", buffering=0) as file:
            for place, part in read:
                if not (self._add_up_to(digest.update, file, end, place) and self._add(digest.update, part)):
                    return None
                end = place + len(part)
            return digest.hexdigest() if self._add_up_to(digest.update, file, end, None) else None

    def _add_up_to(self, add: Add, file: FileIO, start: int, end: int | None) -> bool:
        """Add what a file has from one place to another, or to its end. Whether it is still needed."""
        file.seek(start)
        piece = memoryview(bytearray(PIECE))
        while end is None or start < end:
            count = file.readinto(piece if end is None else piece[: end - start]) or 0
            add(piece[:count])
            start += count
            if self._stopped or not count:
                break
        return not self._stopped

    def _add(self, add: Add, part: memoryview) -> bool:
        """Add bytes in memory. Whether it is still needed."""
        for start in range(0, len(part), PIECE):
            if self._stopped:
                return False
            add(part[start : start + PIECE])
        return not self._stopped


def _place(part: Part) -> int:
    return part[0]
