"""`python -m holo_lite.following SEAT`: a rank that another process starts; nobody types it."""

from __future__ import annotations

import logging
import os
import signal
import sys

from holo_lite.errors import HoloError
from holo_lite.system.garbage import bringing_torch

with bringing_torch():
    from holo_lite.following.following import follow
    from holo_lite.ranks.launch import Opening


def main(word: str) -> int:
    """Follow, and say in a line why it ended, if it was for no good."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first rank decides when it stops
    try:
        follow(Opening.from_word(word))
    except HoloError as error:
        logging.getLogger(__name__).error("%s", error)  # on standard error, without more
        return 2
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stderr.flush()
    os._exit(code)  # connections that wait for a rank that is gone are not waited for
