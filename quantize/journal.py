"""What a conversion has finished, kept so that it can be killed at any moment.

The journal is a file of JSON lines in the output folder: first what decides the result (plan, device, versions),
then a line for every shard that is complete under its name, and for every source that has been hashed. It
begins whole, under a temporary name; a line is on the disk before the next piece of work begins, and a line torn
by a crash is as if it had not been written.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holo_lite.cancel import Cancel
from holo_lite.errors import OutputError, RecordError
from holo_lite.reading.files import read_bytes
from holo_lite.reading.trees import check, parse
from holo_lite.system.outputs import write_output, writing
from holo_lite.system.record_fields import Natural
from holo_lite.system.records import convert
from holo_lite.system.whole_files import refuse_link
from holo_lite.weights.manifest import JOURNAL

HASH_PIECE = 16 * 2**20


@dataclass(frozen=True)
class FinishedFile:
    """A file that is whole and was hashed."""

    file: str
    nbytes: Natural
    sha256: str


@dataclass(frozen=True)
class FinishedShard(FinishedFile):
    """A shard, with the relative errors of the tensors that were quantized in it."""

    errors: Mapping[str, float]


@dataclass
class Journal:
    """The lines of a journal. `begun` is its first line."""

    path: Path
    begun: Mapping[str, Any]
    shards: dict[str, dict[str, Any]] = field(default_factory=dict)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def start(cls, folder: Path, begun: Mapping[str, Any]) -> Journal:
        """Begin a journal, in place of any that is there."""
        journal = cls(folder / JOURNAL, begun)
        write_output(journal.path, _line({"begun": begun}))
        return journal

    @classmethod
    def read(cls, folder: Path) -> Journal | None:
        """Read the journal of a conversion that was cut off, or None if there is none.

        A torn line at its end is cut off the file. Raises `OutputError` for a file that is something else.
        """
        path = folder / JOURNAL
        if not path.is_file():
            return None
        journal, whole = cls._parsed(path)
        with writing(path):
            os.truncate(path, whole)
        return journal

    @classmethod
    def look(cls, path: Path) -> Journal:
        """The journal in a file, which stays as it is. Raises `OutputError`."""
        try:
            return cls._parsed(path)[0]
        except OSError as error:
            raise OutputError(f"{path}: cannot be read ({error.strerror})") from error

    @classmethod
    def _parsed(cls, path: Path) -> tuple[Journal, int]:
        """The journal, and how many bytes of its file are whole lines."""
        lines, whole = _whole_lines(path)
        begun = lines[0].get("begun") if lines else None
        if not isinstance(begun, dict) or not isinstance(begun.get("plan"), str):
            raise OutputError(f"{path}: is not the journal of a conversion; name another folder")
        shards = [line["shard"] for line in lines if _is(line.get("shard"), FinishedShard)]
        sources = [line["source"] for line in lines if _is(line.get("source"), FinishedFile)]
        finished = {each["file"]: each for each in shards}, {each["file"]: each for each in sources}
        return cls(path, begun, *finished), whole

    def finish_shard(self, record: dict[str, Any]) -> None:
        """Note a shard that is complete under its name: file, nbytes, sha256, and what was measured."""
        self.shards[record["file"]] = record
        self._append({"shard": record})

    def finish_source(self, record: dict[str, Any]) -> None:
        """Note a source file's hash."""
        self.sources[record["file"]] = record
        self._append({"source": record})

    def _append(self, line: Mapping[str, Any]) -> None:
        with writing(self.path):
            refuse_link(self.path)
            self._write_behind(line)

    def _write_behind(self, line: Mapping[str, Any]) -> None:
        with self.path.open("ab") as file:
            file.write(_line(line))
            file.flush()
            os.fsync(file.fileno())


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Lines up to the first that a crash tore, and how many bytes they are."""
    lines: list[dict[str, Any]] = []
    whole = 0
    for raw in read_bytes(path).splitlines(keepends=True):
        try:
            line = parse(raw)
            check(line, finite=False)  # an error may be NaN, and is judged when all is done
        except RecordError:
            break
        if not raw.endswith(b"\n") or not isinstance(line, dict):
            break
        lines.append(line)
        whole += len(raw)
    return lines, whole


def _is(found: object, kind: type[FinishedFile]) -> bool:
    """Whether it is such a record. What is none is as if it had not been written."""
    try:
        convert(found, kind)
    except RecordError:
        return False
    return True


def hash_file(path: Path, cancel: Cancel) -> str:
    """The sha256 of a file, read in pieces. Raises `OutputError` if it cannot be read; cancelled between pieces."""
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            while piece := file.read(HASH_PIECE):
                digest.update(piece)
                cancel.check()
            forget(file.fileno())
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror}); check the disk") from error
    return digest.hexdigest()


def forget(handle: int) -> None:
    """Tell the system that a file's pages need not stay in memory, where it listens."""
    if sys.platform != "win32" and sys.platform != "darwin":
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
