"""How far some work is, in the same words for every kind of it: runs, fetching, converting.

A job is a sequence of phases. `PhaseStarted` says which one begins and how much it is; what follows says how much
of it is done: `PhaseAdvanced`, or an event of the job's own that says more (a step, a frame). A `Note` may come
between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Phase = Literal[
    "encode", "text", "denoise", "load", "decode", "check", "fetch", "copy", "names", "convert", "hash", "compare"
]
Unit = Literal["", "bytes", "steps", "frames"]

UNITS: Mapping[Phase, Unit] = {
    "encode": "frames",  # a run's: pictures and videos that are given become latents
    "text": "",  # a run's: prompts are encoded
    "denoise": "steps",
    "load": "",  # a network is read, and the library that holds its layers
    "decode": "frames",
    "check": "bytes",  # what came or was written before is hashed
    "fetch": "bytes",
    "copy": "bytes",
    "names": "",  # files are opened; tensors' names and shapes are compared with the architecture's
    "convert": "bytes",
    "hash": "bytes",
    "compare": "",  # blocks run with both sets of weights
}


@dataclass(frozen=True)
class PhaseStarted:
    """A phase begins: of `total` parts, of which `done` were done before it was cut off; 0: nobody can say.

    `subject` is the file or the network that it is about, where it is about one.
    """

    phase: Phase
    total: int
    done: int = 0
    subject: str = ""

    @property
    def unit(self) -> Unit:
        """What `total` and `done` count; nothing for a phase that says nothing until its end."""
        return UNITS[self.phase]


@dataclass(frozen=True)
class PhaseAdvanced:
    """`done` parts of the phase are done; `detail` is the last of them, such as a file."""

    done: int
    detail: str = ""


@dataclass(frozen=True)
class Note:
    """Something a person should know, on one line."""

    text: str


PhaseEvent = PhaseStarted | PhaseAdvanced | Note
