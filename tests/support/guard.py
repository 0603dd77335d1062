"""A guard against waiting for ever. No test asserts a time, and a busy machine may take a hundred times as long."""

import time

HANGS = 1200.0  # seconds after which what a test waits for will not come


def wait_until(condition):
    """Wait until a condition holds. Raises AssertionError where it never does."""
    end = time.monotonic() + HANGS
    while not condition():
        assert time.monotonic() < end, "what the test waits for never came"
        time.sleep(0.005)
