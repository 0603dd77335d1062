"""What brings files onto the disk, in the order in which it is called."""

import os
import stat
from pathlib import Path


def recorded(monkeypatch):
    """The calls that matter after a power cut, from now on; a list that grows."""
    calls, fsync, replace, unlink, rmdir = [], os.fsync, os.replace, Path.unlink, Path.rmdir

    def synced(handle):
        calls.append("fsync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "fsync file")
        fsync(handle)

    def replaced(source, target):
        calls.append(f"replace {Path(target).name}")
        replace(source, target)

    def removed(kind, remove):
        def call(path, *given, **said):
            remove(path, *given, **said)
            calls.append(f"{kind} {path.name}")

        return call

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr(Path, "unlink", removed("unlink", unlink))
    monkeypatch.setattr(Path, "rmdir", removed("rmdir", rmdir))
    return calls
