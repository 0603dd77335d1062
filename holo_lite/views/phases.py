"""What each phase is called, whatever work it is a phase of."""

from __future__ import annotations

from holo_lite.progress import Phase, PhaseStarted
from holo_lite.views.display import Display
from holo_lite.views.pace import Pace, Worth

TITLES: dict[Phase, str] = {
    "text": "reading the prompt",
    "denoise": "denoising",
    "load": "loading",
    "encode": "encoding pictures",
    "decode": "decoding and writing",
    "check": "checking",
    "fetch": "fetching",
    "copy": "copying",
    "names": "checking names and shapes",
    "convert": "converting",
    "hash": "hashing",
    "compare": "comparing with the source",
}


def begin(event: PhaseStarted, view: Display, worth: Worth = float) -> Pace:
    """Show that a phase begins."""
    return view.begin(
        TITLES[event.phase], event.total, event.done, unit=event.unit, subject=event.subject, worth=worth
    )
