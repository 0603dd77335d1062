"""Whether the shards of a converted model are unchanged, checked while the run uses them.

A disk, a copy or a power cut can change bytes and keep the length, and then only the hash in the manifest shows it.
Hashing an expert of 8 GB takes a core seconds, and reading it takes a disk longer. So the blocks that stream are
hashed as they come, where they lie in memory, by threads beside the first step; only what nobody reads so is read
for it. Nothing computed from a part is kept before that part is settled. A shard found whole is
not hashed again as long as its file is not written again. One that is written to while a run uses it ends that run
before anything is kept: what was read may not be what was hashed. Files that were never converted have no hash to
compare with; that they are written to is noticed, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from holo_lite.weights.files import open_weights
from holo_lite.weights.hashing import Hasher, Part
from holo_lite.weights.manifest import Manifest, Shard, is_converted, read_manifest
from holo_lite.weights.sharded_file import ShardedFile
from holo_lite.weights.stamps import Stamp, WatchedFiles, renamed_or_linked, written_to


@dataclass
class Audit:
    """What is found out during one run; a context manager, whose end stops what is under way.

    `whole` outlives it: the files that were found whole, shared by the runs of a process.
    """

    whole: set[Stamp] = field(default_factory=set)
    _watched: dict[Path, WatchedFiles] = field(default_factory=dict, init=False)
    _manifests: dict[Path, Manifest] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._hasher = Hasher(self.whole)

    def begin(self, *parts: Path) -> None:
        """Begin to hash all files of parts of a model. Raises `CheckpointError`."""
        for part in parts:
            for shard in self._watch(part):
                self._hasher.hash(part.parent / shard.file)

    def streamed(self, *parts: Path, rest: bool) -> None:
        """Begin with parts whose blocks will be read by somebody who says so (`saw`), and so perhaps the `rest`.

        What nobody will say is hashed from now on. Raises `CheckpointError`.
        """
        for part in parts:
            for shard in self._watch(part):
                if shard.block is None and not rest:
                    self._hasher.hash(part.parent / shard.file)

    def saw(self, path: Path, read: Sequence[Part]) -> Future[None] | None:
        """These bytes of a file were read to be used. They must stay as they are until the future is done."""
        return self._hasher.hash(path, read)

    def settle(self, part: Path) -> None:
        """Wait until a part is hashed, and see that it is still the one that was.

        Raises `CheckpointError` that names a shard which is not what was written, or was written to since the part
        was begun; also one of another part, if it is known already, so that a fault in a late part is reported
        early.
        """
        shards = self._watch(part)
        if (gone := self._watched[part].gone) is not None:
            raise gone
        self._hasher.wait(part.parent / shard.file for shard in shards)
        self._tell_fault()
        for before, now in self._watched[part].changed():
            if not renamed_or_linked(before, now) or not self._is_same(part, now):
                raise written_to(now[0])

    def give_up(self) -> None:
        """Stop what is under way, and wait for nothing; `settle` returns soon, and says no more what is whole."""
        self._hasher.give_up()

    def _watch(self, part: Path) -> tuple[Shard, ...]:
        """The shards of a part, watched from now on; none of one that was never converted."""
        shards = self._manifest(part.parent).components[part.name].shards if is_converted(part) else ()
        if part not in self._watched:
            paths = [part.parent / shard.file for shard in shards] or _files(part)
            self._watched[part] = files = WatchedFiles(paths)
            for shard in shards:
                if (seen := files.before.get(part.parent / shard.file)) is not None:
                    self._hasher.expect(seen, shard.sha256)
        return shards

    def _tell_fault(self) -> None:
        if self._hasher.fault is not None:
            raise self._hasher.fault

    def _is_same(self, part: Path, now: Stamp) -> bool:
        """Whether a shard with another time is the same inside, found by hashing it once more."""
        if not is_converted(part):
            return True  # whose content nobody knows
        self._hasher.look_again(now)
        self._watched[part].before[now[0]] = now
        return self._hasher.fault is None

    def _manifest(self, folder: Path) -> Manifest:
        if folder not in self._manifests:
            self._manifests[folder] = read_manifest(folder)
        return self._manifests[folder]

    def __enter__(self) -> Audit:
        return self

    def __exit__(self, *_: object) -> None:
        self._hasher.stop()
        self._watched.clear()


def _files(part: Path) -> list[Path]:
    """The files of a part that was never converted."""
    if part.is_dir():
        return sorted(path for path in part.iterdir() if path.is_file())
    if part.name.endswith(".index.json"):
        index = open_weights(part)
        return [part, *(index.shard_paths if isinstance(index, ShardedFile) else ())]
    return [part]
