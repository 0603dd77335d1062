"""What a fetch shows in a terminal."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping

from holo_lite.fetch.order import FetchOrder
from holo_lite.fetch.run import Checking, Fetched
from holo_lite.fetch.transfer import Advanced, Begun, Event, Note, Phase
from holo_lite.views.run import Display, Pace

TITLES: Mapping[Phase, str] = {"check": "checking the downloaded part of", "fetch": "fetching", "copy": "copying"}


def show(event: Event | Checking | Fetched, view: Display) -> None:
    """Show one event of a fetch."""
    match event:
        case Begun(phase, name, total, done):
            view.begin(f"{TITLES[phase]} {name}", Pace(total, done, in_bytes=True))
        case Advanced(done):
            view.advance(done, "done")
        case Note(text):
            view.say(f"note: {text}")
        case Checking():
            view.begin("checking names and shapes", Pace())
        case Fetched(order):
            view.say(f"model          {order.folder}")


def next_lines(order: FetchOrder, scheme: str) -> Iterator[str]:
    """What to type next: the conversion that this machine's profile prefers, then a first video."""
    full = order.variant == "full"
    out = f"{order.folder}{'-full' if full else ''}-{scheme}"
    chosen = ["--attention", "full"] if full else []
    yield f"next           {typed('quantize', str(order.folder), out, '--scheme', scheme, *chosen)}"
    yield f"then           {typed('generate', 'STORYBOARD', '--model', out)}"


def typed(*words: str) -> str:
    """A command of holo-lite, quoted for this system's shell."""
    command = ["holo-lite", *words]
    return subprocess.list2cmdline(command) if os.name == "nt" else shlex.join(command)
