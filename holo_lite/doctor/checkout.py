"""The commit that holo-lite runs from, if it runs from a checkout of its repository.

Git is asked about the package's own folder alone, never about the current one or one above: what a stranger's
repository configures, git would run.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from holo_lite.doctor.facts import SourceFacts
from holo_lite.doctor.programs import program
from holo_lite.version import __version__

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("holo_lite", "quantize", "profiles", "cli.py")  # whose changes matter
PATIENCE = 10  # seconds; a folder on a network may be slow
KEPT = ("PATH", "SYSTEMROOT", "TEMP", "TMP")  # of the environment: the rest may redirect git
WITHOUT = ("core.fsmonitor=false", f"core.hooksPath={os.devnull}", "core.pager=cat")


def source(root: Path = ROOT) -> SourceFacts:
    """The version, and the commit if the folder that holds the package is a checkout itself."""
    git = program("git") if (root / ".git").exists() else None
    commit = _asked(git, root, "rev-parse", "--verify", "HEAD") if git else None
    if not git or not commit:
        return SourceFacts(__version__)
    changed = _asked(git, root, "status", "--porcelain", "--untracked-files=no", "--", *PARTS)
    return SourceFacts(__version__, commit.strip(), None if changed is None else bool(changed.strip()))


def _asked(git: str, root: Path, *words: str) -> str | None:
    """What git says of a folder; None if it refuses or takes too long."""
    options = [word for each in WITHOUT for word in ("-c", each)]
    environment = {name: os.environ[name] for name in KEPT if name in os.environ} | {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CEILING_DIRECTORIES": str(root.parent),
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
    try:
        done = subprocess.run(
            [git, *options, "-C", str(root), *words],
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
