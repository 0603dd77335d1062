"""Whether the shards of a converted model are unchanged, checked while the run uses them.

A disk, a copy or a power cut can change bytes and keep the length, and then only the hash in the manifest shows it.
Hashing an expert of 8 GB takes a core seconds, but nothing waits for it: a few threads do it while blocks come
and the first step is computed, and nothing computed from a part is kept before that part is settled. A shard found
whole is not hashed again as long as its file is not written again. One that is written to while a run uses it ends
that run before anything is kept: what was read may not be what was hashed. Files that were never converted have no
hash to compare with; that they are written to is noticed, too.
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
from holo_lite.weights.files import open_weights
from holo_lite.weights.manifest import Manifest, Shard, is_converted, read_manifest
from holo_lite.weights.sharded_file import ShardedFile
from holo_lite.weights.stamps import Stamp, WatchedFiles, renamed_or_linked, written_to

PIECE = 4 * 2**20  # bytes hashed at once, without the interpreter's lock
SHARE, MOST_HANDS = 4, 4  # one core in SHARE hashes a part, at most MOST_HANDS


@dataclass
class Audit:
    """What is found out during one run; a context manager, whose end stops what is under way.

    `whole` outlives it: the files that were found whole, shared by the runs of a process.
    """

    whole: set[Stamp] = field(default_factory=set)
    _under_way: dict[Path, _Hashing] = field(default_factory=dict, init=False)
    _watched: dict[Path, WatchedFiles] = field(default_factory=dict, init=False)
    _manifests: dict[Path, Manifest] = field(default_factory=dict, init=False)

    def begin(self, *parts: Path) -> None:
        """Begin to hash the shards of parts of a model, each in a thread of its own. Raises `CheckpointError`."""
        for part in parts:
            if part not in self._watched:
                shards = self._manifest(part.parent).components[part.name].shards if is_converted(part) else ()
                paths = [part.parent / shard.file for shard in shards] or _files(part)
                self._watched[part] = files = WatchedFiles(paths)
                if shards:
                    self._under_way[part] = _Hashing(part.parent, shards, files, self.whole)
                    self._under_way[part].start()

    def settle(self, part: Path) -> None:
        """Wait until a part is hashed, and see that it is still the one that was.

        Raises `CheckpointError` that names a shard which is not what was written, or was written to since the part
        was begun; also one of another part, if it is known already, so that a fault in a late part is reported
        early.
        """
        self.begin(part)
        if part in self._under_way:
            self._under_way[part].join()
        for hashing in self._under_way.values():
            if hashing.fault is not None:
                raise hashing.fault
        for before, now in self._watched[part].changed():
            if not renamed_or_linked(before, now) or not self._is_same(part, now):
                raise written_to(now[0])

    def _is_same(self, part: Path, now: Stamp) -> bool:
        """Whether a shard with another time is the same inside, found by hashing it once more."""
        if part not in self._under_way:
            return True  # whose content nobody knows
        hashing = self._under_way[part]
        hashing.look_again(now)
        return hashing.fault is None

    def give_up(self) -> None:
        """Stop what is under way, and wait for nothing; `settle` returns soon, and says no more what is whole."""
        for hashing in self._under_way.values():
            hashing.give_up()

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
        self._watched.clear()


def hands() -> int:
    """How many threads hash a part."""
    return min(MOST_HANDS, max(1, (os.cpu_count() or 1) // SHARE))


class _Hashing(threading.Thread):
    """Hashes a part's shards, several at a time, until one is found that is not what was written."""

    def __init__(self, folder: Path, shards: Sequence[Shard], files: WatchedFiles, whole: set[Stamp]) -> None:
        super().__init__(daemon=True, name="audit")
        self.fault: CheckpointError | None = files.gone
        self._sums = {folder / shard.file: shard.sha256 for shard in shards}
        self._files, self._whole = files, whole
        self._stopped = False

    def run(self) -> None:
        with ThreadPoolExecutor(hands(), "audit") as pool:
            list(pool.map(self._settle, list(self._files.before.values())))

    def look_again(self, now: Stamp) -> None:
        """Hash one file once more, and watch it from now on."""
        self._settle(now)
        self._files.before[now[0]] = now

    def _settle(self, seen: Stamp) -> None:
        if self._stopped or self.fault is not None:
            return
        try:
            self._look_at(seen)
        except OSError as error:
            self.fault = CheckpointError(f"{seen[0]}: cannot be read ({error.strerror}); check the disk")

    def stop(self) -> None:
        """End it, and wait until it has."""
        self.give_up()
        self.join()

    def give_up(self) -> None:
        """Have it end."""
        self._stopped = True

    def _look_at(self, seen: Stamp) -> None:
        path = seen[0]
        if seen in self._whole:
            return
        found = self._hash(path)
        if found == self._sums[path]:
            self._whole.add(seen)
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


def _files(part: Path) -> list[Path]:
    """The files of a part that was never converted."""
    if part.is_dir():
        return sorted(path for path in part.iterdir() if path.is_file())
    if part.name.endswith(".index.json"):
        index = open_weights(part)
        return [part, *(index.shard_paths if isinstance(index, ShardedFile) else ())]
    return [part]
