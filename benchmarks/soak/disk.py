"""A disk that fails: at a chosen call that changes it, or for real, at a size no file may pass.

Writes through `Path.open`, and what `os` does to files and folders, go through here while a `Disk` is entered. What
happens at the chosen calls is up to whoever chose them: an error of the system's, or the end of the process.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest import mock

CALLS = ("replace", "fsync", "truncate", "unlink", "mkdir", "rmdir")
TAKE_ROOM = frozenset({"write", "replace", "fsync", "mkdir"})
When = Literal["before", "midway", "behind"]


@dataclass
class Disk:
    """Notes every call that changes the disk, and does something at the chosen ones; a context manager.

    `chosen` is asked with a call's number and name. `blow` comes before the call or behind it; midway, in a write,
    half of the bytes are written.
    """

    chosen: Callable[[int, str], bool] = lambda _number, _name: False
    blow: Callable[[], None] = lambda: None
    when: When = "before"
    calls: list[str] = field(default_factory=list)
    blown: int = 0
    _patches: ExitStack = field(default_factory=ExitStack, init=False)

    def __enter__(self) -> Disk:
        for name in CALLS:
            self._patches.enter_context(mock.patch.object(os, name, partial(self._call, name, getattr(os, name))))
        opened = Path.open

        def opening(path: Path, *args: Any, **options: Any) -> _File:
            return _File(opened(path, *args, **options), self)

        self._patches.enter_context(mock.patch.object(Path, "open", opening))
        return self

    def __exit__(self, *_: object) -> None:
        self._patches.close()

    def write(self, file: Any, data: Any) -> Any:
        """Write to a file."""
        if not self._is_chosen("write"):
            return file.write(data)
        part = {"before": 0, "midway": len(data) // 2, "behind": len(data)}[self.when]
        if part:
            file.write(data[:part])
            file.flush()
        return self._blow()

    def _call(self, name: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        chosen = self._is_chosen(name)
        if chosen and self.when != "behind":
            self._blow()
        result = function(*args, **options)
        if chosen and self.when == "behind":
            self._blow()
        return result

    def _is_chosen(self, name: str) -> bool:
        self.calls.append(name)
        return self.chosen(len(self.calls) - 1, name)

    def _blow(self) -> None:
        self.blown += 1
        self.blow()


class _File:
    """A file whose writes the disk is asked about."""

    def __init__(self, file: Any, disk: Disk) -> None:
        self._file, self._disk = file, disk

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> Any:
        """Write, if the disk lets it."""
        return self._disk.write(self._file, data)


def full_disk(first: int, lasting: int) -> Disk:
    """A disk that is full from its n-th call on, for so many calls that need room."""

    def chosen(number: int, name: str) -> bool:
        return name in TAKE_ROOM and first <= number < first + lasting

    def refuse() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return Disk(chosen, refuse, "midway")


@contextmanager
def no_file_beyond(nbytes: int) -> Iterator[None]:
    """Have the system itself refuse to let any file of this process grow beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
