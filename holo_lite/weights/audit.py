"""Whether the shards of a converted model are unchanged, checked while the run uses them.

A disk, a copy or a power cut can change bytes and keep the length, and then only the hash in the manifest shows it.
Hashing an expert of 8 GB takes a core seconds, but nothing waits for it: a few threads do it while blocks come
and the first step is computed, and nothing computed from a part is kept before that part is settled. A shard found
whole is not hashed again as long as its file is not written again. Files that were never converted have no hash to
compare with.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from holo_lite.errors import CheckpointError
from holo_lite.weights.manifest import Manifest, Shard, is_converted, read_manifest

PIECE = 4 * 2**20  # bytes hashed at once, without the interpreter's lock
SHARE, MOST_HANDS = 4, 4  # one core in SHARE hashes a part, at most MOST_HANDS

Stamp = tuple[Path, int, int, int, int]  # a file as it was last written: path, size, times of change, inode


@dataclass
class Audit:
    """What is found out during one run; a context manager, whose end stops what is under way.

    `whole` outlives it: the files that were found whole, shared by the runs of a process.
    """

    whole: set[Stamp] = field(default_factory=set)
    _under_way: dict[Path, _Hashing] = field(default_factory=dict, init=False)
    _manifests: dict[Path, Manifest] = field(default_factory=dict, init=False)

    def begin(self, *parts: Path) -> None:
        """Begin to hash the shards of parts of a model, each in a thread of its own. Raises `CheckpointError`."""
        for part in parts:
            if is_converted(part) and part not in self._under_way:
                shards = self._manifest(part.parent).components[part.name].shards
                self._under_way[part] = _Hashing(part.parent, shards, self.whole)
                self._under_way[part].start()

    def settle(self, part: Path) -> None:
        """Wait until a part is hashed.

        Raises `CheckpointError` that names a shard which is not what was written; also one of another part, if it
        is known already, so that a fault in a late part is reported early.
        """
        self.begin(part)
        if part in self._under_way:
            self._under_way[part].join()
        for hashing in self._under_way.values():
            if hashing.fault is not None:
                raise hashing.fault

    def _manifest(self, folder: Path) -> Manifest:
        if folder not in self._manifests:
            self._manifests[folder] = read_manifest(folder)
        return self._manifests[folder]

    def __enter__(self) -> Audit:
        return self

    def __exit__(self, *_: object) -> None:
        for hashing in self._under_way.values():
            hashing.stop()
        self._under_way.clear()


def hands() -> int:
    """How many threads hash a part."""
    return min(MOST_HANDS, max(1, (os.cpu_count() or 1) // SHARE))


class _Hashing(threading.Thread):
    """Hashes a part's shards, several at a time, until one is found that is not what was written."""

    def __init__(self, folder: Path, shards: Sequence[Shard], whole: set[Stamp]) -> None:
        super().__init__(daemon=True, name="audit")
        self.fault: CheckpointError | None = None
        self._folder, self._shards, self._whole = folder, shards, whole
        self._stopped = False

    def run(self) -> None:
        with ThreadPoolExecutor(hands(), "audit") as pool:
            list(pool.map(self._settle, self._shards))

    def _settle(self, shard: Shard) -> None:
        if self._stopped or self.fault is not None:
            return
        path = self._folder / shard.file
        try:
            self._look_at(path, shard.sha256)
        except OSError as error:
            self.fault = CheckpointError(f"{path}: cannot be read ({error.strerror}); check the disk")

    def stop(self) -> None:
        """End it, and wait until it has."""
        self._stopped = True
        self.join()

    def _look_at(self, path: Path, sha256: str) -> None:
        stamp = _stamp(path)
        if stamp in self._whole:
            return
        found = self._hash(path)
        if found == sha256:
            self._whole.add(stamp)
        elif found is not None:
            self.fault = CheckpointError(
                f"{path}: has changed since it was written (its sha256 differs); "
                "copy the file again, or convert the model again into an empty folder"
            )

    def _hash(self, path: Path) -> str | None:
        """The sha256 of a file; None if it is no longer needed."""
        digest, piece = hashlib.sha256(), memoryview(bytearray(PIECE))
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(piece):
                digest.update(piece[:count])
                if self._stopped:
                    return None
        return digest.hexdigest()


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return path, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
