"""A command that is asked to stop removes half-written files, and says how to continue.

Ctrl-C asks for that, and so does the system: with SIGTERM, when it shuts down or a container's time is over, and
with SIGHUP, when the terminal is closed. Without a handler these two would end the process at once. A signal that
is ignored, as under `nohup`, stays ignored.

A signal interrupts, and it cancels the command's token: an interrupt may come where Python can only print it and
forget it, as within a destructor, and then the work ends before its next block all the same.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

import click

from holo_lite.cancel import Cancel

ASKING = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
BY_SIGNAL = 128  # the exit code is this plus the signal's number, as in shells
PATIENCE = 5.0  # seconds in which a second signal does not disturb the clean-up


@dataclass
class Stop:
    """Which signal asked to stop, and when on the monotonic clock, if one did."""

    number: int = signal.SIGINT
    asked: float | None = None
    cancel: Cancel = field(default_factory=Cancel)

    @property
    def code(self) -> int:
        """The exit code of a process that was stopped."""
        return BY_SIGNAL + self.number

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Handle a signal. Raises `KeyboardInterrupt`."""
        now = time.monotonic()
        if self.asked is None or now - self.asked > PATIENCE:
            self.number, self.asked = number, now
            self.cancel.cancel()
            raise KeyboardInterrupt


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Let signals that ask to stop raise `KeyboardInterrupt` in the context; only in the main thread."""
    stop, before = Stop(), {}
    for name in ASKING:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) in {signal.SIG_DFL, signal.default_int_handler}:
            before[number] = signal.signal(number, stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def token() -> Cancel:
    """The token of the command that runs, which signals that ask to stop cancel."""
    context = click.get_current_context(silent=True)
    return (context.find_object(Cancel) if context else None) or Cancel()
