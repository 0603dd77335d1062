"""Looking at things in another process, so that what kills or hangs it does not end the doctor.

A library that was built for another processor ends its process at the first call; a driver that is stuck never
answers. The checks run in another process, by name, which sends the result of each. If it dies or takes too long,
that is the result of the check it was running, and a new process continues with the rest.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

from holo_lite.doctor.facts import Trouble
from holo_lite.errors import HoloError, with_kind
from holo_lite.system.starting import importing_nothing_from_here

if sys.platform == "win32":
    from multiprocessing.connection import PipeConnection as Connection
else:
    from multiprocessing.connection import Connection

Look = Callable[[str], Any]
DIES_WITHIN = 10.0  # seconds, once its end of the pipe is closed or all is answered
LONGEST = 160  # characters of what a library says


def look_apart(look: Look, names: Sequence[str], limit: float) -> Iterator[tuple[str, Any]]:
    """Give every name with what `look` gives for it, or with the `Trouble` it had.

    `look` is a function of a module, or a partial of one; it and what it gives go through a pipe. A name may take
    `limit` seconds, the first of a process with the time that it takes to start.
    """
    left = list(names)
    while left:
        with _started(look, left) as (process, connection):
            alive = True
            while left and alive:
                alive = connection.poll(limit)
                found = _received(process, connection) if alive else Trouble(f"gave no answer in {limit:.0f} s")
                alive = alive and process.exitcode is None
                yield left.pop(0), found
            if alive:
                process.join(DIES_WITHIN)  # killed while it clears away, it would leave semaphores behind


def attempt(look: Look, name: str) -> Any:
    """What `look` gives for a name, or the `Trouble` it has."""
    try:
        return look(name)
    except Exception as error:  # noqa: BLE001 - broken libraries raise anything, and the doctor must say so
        return Trouble(_said(error))


@contextmanager
def _started(look: Look, names: list[str]) -> Iterator[tuple[BaseProcess, Connection]]:
    """A process that works through names, and the end of the pipe at which its answers arrive."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, look, names))
    with _importing_nothing_from_here():
        process.start()
    theirs.close()
    try:
        yield process, ours
    finally:
        process.kill()
        process.join()
        ours.close()


@contextmanager
def _importing_nothing_from_here() -> Iterator[None]:
    """Have a process that is started import nothing from the folder a person stands in."""
    before, safe = dict(os.environ), importing_nothing_from_here(os.environ)
    os.environ.update(safe)
    try:
        yield
    finally:
        for name in safe.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _work(connection: Connection, look: Look, names: list[str]) -> None:
    """What the other process does. Libraries' own words go nowhere: the answers say all."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    for name in names:
        connection.send(attempt(look, name))


def _received(process: BaseProcess, connection: Connection) -> Any:
    try:
        return connection.recv()
    except EOFError:
        process.join(DIES_WITHIN)
        return Trouble(f"ended its process ({_end(process.exitcode)})")


def _end(code: int | None) -> str:
    """An exit code in words: below zero it is a signal."""
    known = {-number.value: number.name for number in signal.Signals}
    return known.get(code or 0, f"exit code {code}")


def _said(error: Exception) -> str:
    """What an error says, short enough for a line; ours say all by themselves."""
    return str(error) if isinstance(error, HoloError) else with_kind(error, LONGEST)
