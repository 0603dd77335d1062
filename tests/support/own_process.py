"""Runs a script of this folder in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from guard import HANGS


def own_process(script, **environment):
    """It ends without an error; else what it printed is the failure."""
    support = Path(__file__).parent
    paths = os.pathsep.join([str(support.parents[1]), str(support), *sys.path])
    done = subprocess.run(
        [sys.executable, str(support / script)],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
