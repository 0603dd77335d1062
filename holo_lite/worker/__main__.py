"""`python -m holo_lite.worker`: the process that renders, for programs. docs/worker.md says how to talk to it."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from holo_lite.worker.process import Channel, serve


def main(words: Sequence[str]) -> int:
    """Serve until standard input is closed."""
    parser = argparse.ArgumentParser(prog="holo_lite.worker", description=__doc__)
    parser.add_argument("--idle", type=int, metavar="SECONDS", help="let a model go that nobody used for so long")
    idle: int | None = parser.parse_args(words).idle
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it decides when it stops
    serve(0, Channel.of_standard_output(), idle)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
