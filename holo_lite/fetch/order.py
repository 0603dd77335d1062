"""What a fetch has to do, file by file, decided before the first large byte is asked for.

Files go into the folder the person named, not into the hub's cache: the model's folder is one, the repositories are
two, and 69 GB should not be in a hidden place. What the cache holds already is still used: linked, where it is on
the same disk and so takes no space; otherwise copied. So is a file that is anywhere in the folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from holo_lite.config import Attention
from holo_lite.errors import FetchError, OutputError
from holo_lite.fetch.hub import Hub, HubFile
from holo_lite.fetch.transfer import kept
from holo_lite.fetch.wanted import SHARED, ReleasedFile, Repository, pieces, wanted
from holo_lite.system.units import bytes_text
from holo_lite.weights.manifest import FILE_NAME

Means = Literal["there", "link", "copy", "fetch"]
SAID: Mapping[Means, str] = {
    "there": "is there",
    "link": "from the Hugging Face cache, or another model's folder",
    "copy": "copied from the Hugging Face cache, or another model's folder",
    "fetch": "from",
}


@dataclass(frozen=True)
class OrderItem:
    """One file: where it goes, how it gets there, and how much of it came before, in bytes.

    `cached` is the file in the hub's cache, where it is linked or copied from there.
    """

    file: HubFile
    target: Path
    means: Means
    came: int = 0
    cached: Path | None = None

    @property
    def room(self) -> int:
        """Bytes of disk it still takes."""
        return {"there": 0, "link": 0, "copy": self.file.nbytes, "fetch": self.file.nbytes - self.came}[self.means]


@dataclass(frozen=True)
class FetchOrder:
    """All files of one model, and the bytes that are free where they go."""

    variant: Attention
    folder: Path
    items: tuple[OrderItem, ...]
    licences: tuple[Repository, ...]
    free: int

    @property
    def room(self) -> int:
        """Bytes of disk that all of it still takes."""
        return sum(item.room for item in self.items)

    @property
    def is_done(self) -> bool:
        """Whether every file is there."""
        return all(item.means == "there" for item in self.items)


@dataclass(frozen=True)
class Fetched:
    """The folder is a model. seconds: how long it took."""

    order: FetchOrder
    seconds: float = 0.0


def plan_order(variant: Attention, folder: Path, hub: Hub, cache: Path | None = None) -> FetchOrder:
    """Ask the hub for the files' sizes and look for files that exist. Writes nothing.

    `cache` is the hub's cache (None: its usual place). Raises `FetchError`, and `OutputError` for a folder that
    holds something else.
    """
    if (folder / FILE_NAME).exists():
        raise OutputError(f"{folder}: is a converted model; give --into another folder")
    files = wanted(variant)
    repositories = tuple(dict.fromkeys(file.repository for file in files))
    listed = {each: hub.files(each.name) for each in repositories}
    single = [piece for file in files for piece in _pieces(file, listed[file.repository])]
    items = tuple(_item(file, find(file, listed[file.repository]), folder, cache) for file in single)
    return FetchOrder(variant, folder, items, repositories, shutil.disk_usage(_standing(folder)).free)


def _pieces(file: ReleasedFile, listed: Iterable[HubFile]) -> tuple[ReleasedFile, ...]:
    """The files that one stands for. Raises `FetchError` for none."""
    found = pieces(file, [each.path for each in listed])
    if not found:
        raise FetchError(
            f"{file.repository.name}: no longer contains {file.path}; download it by hand from its page"
        )
    return found


def find(file: ReleasedFile, listed: Iterable[HubFile]) -> HubFile:
    """The listed file whose path ends as wanted. Raises `FetchError` if there is none."""
    found = [each for each in listed if f"/{each.path}".endswith(f"/{file.path}")]
    if not found:
        raise FetchError(
            f"{file.repository.name}: no longer contains {file.path}; download it by hand from its page"
        )
    return min(found, key=lambda each: (each.path.count("/"), each.path))


def check_room(order: FetchOrder) -> None:
    """Raise `OutputError` if the disk has no room for what is missing."""
    if order.room > order.free:
        raise OutputError(
            f"{order.folder}: needs {bytes_text(order.room)} of disk, {bytes_text(order.free)} are free; "
            "free some space, or give --into a folder on another disk"
        )


def order_lines(order: FetchOrder) -> Iterator[str]:
    """What will be done, and under which terms, a line at a time."""
    for item in order.items:
        source = f" {item.file.repository}" if item.means == "fetch" else ""
        came = f", {bytes_text(item.came)} already downloaded" if item.came else ""
        yield f"{bytes_text(item.file.nbytes):>10}  {item.file.name}: {SAID[item.means]}{source}{came}"
    yield f"{bytes_text(order.room):>10}  of disk are needed in {order.folder}; {bytes_text(order.free)} are free"
    for repository in order.licences:
        yield f"licence of {repository.name}: {repository.licence} (https://huggingface.co/{repository.name})"


def _item(want: ReleasedFile, file: HubFile, folder: Path, cache: Path | None) -> OrderItem:
    standing = _standing_file(want, file, folder)
    if standing is not None:
        return OrderItem(file, standing, "there")
    target = folder / want.path
    if (cached := _cached(file, cache) or _beside(want, file, folder)) is not None:
        same_disk = cached.stat().st_dev == _standing(folder).stat().st_dev
        return OrderItem(file, target, "link" if same_disk else "copy", cached=cached)
    return OrderItem(file, target, "fetch", min(kept(file, target), file.nbytes))


def _standing_file(want: ReleasedFile, file: HubFile, folder: Path) -> Path | None:
    """The file, if it is anywhere in the folder. Raises `OutputError` for another file of its name."""
    name = Path(want.path).name
    for found in sorted(folder.rglob(name)):
        hidden = any(part.startswith(".") for part in found.relative_to(folder).parts)
        if hidden or not found.is_file():
            continue
        if found.stat().st_size != file.nbytes:
            raise OutputError(
                f"{found}: has {found.stat().st_size} bytes, the published file {file.nbytes}; remove or rename it"
            )
        return found
    return None


def _cached(file: HubFile, cache: Path | None) -> Path | None:
    """The whole file in the hub's cache, if it is there."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(file.repository, file.path, cache_dir=cache, revision=file.commit)
    path = Path(found).resolve() if isinstance(found, str) else None
    return path if path is not None and path.is_file() and path.stat().st_size == file.nbytes else None


def _beside(want: ReleasedFile, file: HubFile, folder: Path) -> Path | None:
    """The same file of another model next to the folder: encoder, VAE and tokenizer are everyone's."""
    if want not in SHARED or not folder.parent.is_dir():
        return None
    others = sorted(other for other in folder.parent.iterdir() if other.is_dir() and other != folder)
    places = (other / want.path for other in others)
    return next((each for each in places if each.is_file() and each.stat().st_size == file.nbytes), None)


def _standing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir())
