"""What is measured: `python -m benchmarks.NAME`, at the root of the repository.

A module here is a benchmark or is shared by several. A folder is a benchmark of several modules and begins in its
`command.py`. The helpers of the tests (`tests/support/`) measure here as well.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"

sys.path.append(str(ROOT / "tests" / "support"))


def command(name: str) -> list[str]:
    """What runs a module of the benchmarks in a process of its own, with `environment`."""
    return [sys.executable, "-m", f"benchmarks.{name}"]


def environment() -> dict[str, str]:
    """This process's environment, in which Python finds the benchmarks from any folder."""
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
