"""`python -m holo_lite.worker`: the process that renders, for programs. docs/worker.md says how to talk to it."""

from __future__ import annotations

import signal
import sys

from holo_lite.worker.process import Channel, serve

IDLE = "--idle"


def main(words: list[str]) -> int:
    """Serve until standard input is closed. `--idle SECONDS` lets an unused model go."""
    idle = None
    if words:
        if len(words) != 2 or words[0] != IDLE or not words[1].isdigit():
            sys.stderr.write(f"holo_lite.worker: takes nothing but {IDLE} SECONDS\n")
            return 2
        idle = float(words[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it decides when it stops
    serve(0, Channel.of_standard_output(), idle)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
