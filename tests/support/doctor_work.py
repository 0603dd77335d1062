"""What a process beside the doctor's is made to do in tests. It imports nothing, so that it starts at once."""

import os
import signal
import sys
import time


def misbehave(name):
    """Do what the name says."""
    if name == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "leave":
        sys.exit(7)
    if name == "hang":
        time.sleep(60)
    if name == "raise":
        raise RuntimeError("the library is broken\nin many lines")
    if name == "chatter":
        os.write(1, b"to the terminal\n")
    if name == "secret":
        return lambda: None  # cannot go through a pipe
    return f"seen {name}"
