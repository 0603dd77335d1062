"""A process that dies at a call that changes the disk, for whatever must survive kill -9."""

import json
import os
from functools import partial
from pathlib import Path
from unittest.mock import patch

KILLED = 77
CHANGES = ("replace", "fsync", "truncate", "unlink", "mkdir", "rmdir")


def in_child(work):
    """Run something in a forked process that may be killed; returns how it ended, as `os.waitpid` says."""
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)  # nothing of the test runs on in here
    return os.waitpid(child, 0)[1]


def killed(work, call, when):
    """Run something in a process that dies at the n-th call that changes the disk; whether it came so far."""

    def dying():
        Die(call, when)
        work()

    code = os.waitstatus_to_exitcode(in_child(dying))
    assert code in {0, KILLED}, code
    return code == KILLED


def changes(work):
    """The calls that change the disk while something runs in a process of its own, by name and in order."""
    read, write = os.pipe()

    def counting():
        death, seen = Die(10**9, "before"), []
        death.count = seen.append
        death.write = lambda file, data: (seen.append("write"), file.write(data))[1]
        work()
        with os.fdopen(write, "w") as pipe:
            json.dump(seen, pipe)

    assert in_child(counting) == 0
    os.close(write)
    with os.fdopen(read) as pipe:
        return json.load(pipe)


class Die:
    """Ends this process at the n-th call that changes the disk: before it, behind it, or midway through a write."""

    def __init__(self, call, when):
        self.left, self.when = call, when
        for name in CHANGES:
            setattr(os, name, partial(self.call, name, getattr(os, name)))
        opened = Path.open

        def dying(path, *args, **options):
            return Dying(opened(path, *args, **options), self)

        patch.object(Path, "open", dying).start()

    def call(self, name, function, *args, **options):
        last = self.count(name)
        if last and self.when == "before":
            os._exit(KILLED)
        try:
            return function(*args, **options)
        finally:  # it may have failed
            if last:
                os._exit(KILLED)

    def write(self, file, data):
        if self.count("write"):
            file.write(data[: {"before": 0, "midway": len(data) // 2, "behind": len(data)}[self.when]])
            file.flush()
            os._exit(KILLED)
        return file.write(data)

    def count(self, _):
        self.left -= 1
        return self.left < 0


class Dying:
    """A file whose writes the process may die in."""

    def __init__(self, file, death):
        self.file, self.death = file, death

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        return self.death.write(self.file, data)
