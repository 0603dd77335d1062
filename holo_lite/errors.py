"""Every error a person can meet, as one tree.

    HoloError                    something the person can fix; exit code 2
    ├── StoryboardError          the storyboard file, its captions, frames or cuts
    ├── PromptError              the text: tags, windows, the 512-token limit
    ├── SettingsError            a size, a step count, a scale, an option
    │   └── FitError             more than a card has memory for, or than it can compute
    ├── CheckpointError          a file of weights: missing, torn, wrong names or shapes
    ├── OutputError              a place that cannot be written, a video that cannot be read
    ├── FetchError               the hub: out of reach, refusing, or sending something else
    │   └── PassingError         the same request may succeed in a while (in `holo_lite.fetch.hub`)
    ├── WritingError             the language model that writes storyboards: out of reach, or of no use
    │   └── UnknownFormError     it may answer the same question freely (in `holo_lite.writing.talk`)
    ├── RunError                 a run to resume that is damaged, foreign or another; events that ended before
    ├── RecordError              a record that holo-lite wrote, and that cannot be read: with the place of the fault
    │   └── LaterRecordError     nothing is wrong with it, but a later version wrote it
    ├── RanksError               another card or machine of a clip that is computed by several: lost, or unable
    ├── FarmError                a cluster of machines: out of reach, or none of its cards can be used
    └── RoomError                memory that ran out and cannot be made do with

A message is one line: what is wrong, where, and how to fix it. Our own mistakes are assertions,
never one of these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LINE = 120  # characters of what another's error says, in a message to a person


class HoloError(Exception):
    """The root: one line that says what is wrong, where, and how to fix it."""


class StoryboardError(HoloError):
    """The storyboard cannot be understood, or asks for an impossible cut."""


class PromptError(HoloError):
    """The prompt has no usable text windows, or does not fit the encoder."""


class SettingsError(HoloError):
    """An option lies outside what the model can do."""


class FitError(SettingsError):
    """A clip needs more memory than there is, or a card cannot compute what is asked; `short` says why in brief."""

    def __init__(self, message: str, short: str = "") -> None:
        super().__init__(message)
        self.short = short or message


class CheckpointError(HoloError):
    """A file of weights is missing, damaged, or belongs to another architecture."""


class OutputError(HoloError):
    """A file cannot be written or read where the person asked for it."""


class FetchError(HoloError):
    """The hub cannot be reached, does not give a file, or gives another than it lists."""


class WritingError(HoloError):
    """The endpoint cannot be reached, refuses, takes too long, or answers with what is no storyboard."""


class RunError(HoloError):
    """The folder of a run is damaged, holds another run, or belongs to another model; or a run has ended before."""


class RecordError(HoloError, ValueError):
    """A record cannot be read: it is no JSON, or holds what no version wrote, at the place that is named."""


class LaterRecordError(RecordError):
    """A later holo-lite wrote the record, and this one is too old to go on with it."""


class RanksError(HoloError):
    """Another card or machine that computes a clip together with this one has ended, hangs, or cannot go on."""


class FarmError(HoloError):
    """A cluster of machines cannot be reached, or none of its cards can be used."""


class RoomError(HoloError):
    """Memory ran out, on the device or of the pinned kind, and nothing smaller is left to try."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the closest known name, or an empty text if none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def first_three(names: Iterable[str]) -> str:
    """Return at most three names, in order, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return ", ".join(ordered[:3]) + more


def in_a_line(error: BaseException, most: int = LINE, *, whole: bool = False) -> str:
    """What an error of another library says, cut to a line: its first line, or with `whole` all lines as one.

    One that says nothing is named by its kind.
    """
    text = str(error).strip()
    said = " ".join(text.split()) if whole else next(iter(text.splitlines()), "")
    cut = said if len(said) <= most else f"{said[: most - 1]}…"
    return cut or type(error).__name__


def with_kind(error: BaseException, most: int = LINE) -> str:
    """The same with the error's kind before it, for errors whose kind says half."""
    kind, said = type(error).__name__, in_a_line(error, most)
    return kind if said == kind else f"{kind}: {said}"
