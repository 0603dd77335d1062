"""A line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "fix"]


@dataclass(frozen=True)
class Diagnosis:
    """what: its subject; said: the finding; do: what to type or change, always for a fix and sometimes for a note.

    A note costs speed or room, or is good to know. A fix is what a run would fail of, or be many times slower for.
    """

    what: str
    state: State
    said: str
    do: str = ""

    def __post_init__(self) -> None:
        assert self.do or self.state != "fix", f"{self.what}: a fix says what to do"


def ok(what: str, said: str) -> Diagnosis:
    """All is well."""
    return Diagnosis(what, "ok", said)


def note(what: str, said: str, do: str = "") -> Diagnosis:
    """Good to know."""
    return Diagnosis(what, "note", said, do)


def fix(what: str, said: str, do: str) -> Diagnosis:
    """Something to fix."""
    return Diagnosis(what, "fix", said, do)


def unseen(what: str, said: str) -> Diagnosis:
    """Something could not be looked at."""
    return fix(what, f"could not be checked: {said}", "report it, with the output of `holo-lite doctor --json`")


def pip(*words: str) -> str:
    """A command for pip, in the Python that holo-lite runs in."""
    return " ".join(("python -m pip install", *words))
