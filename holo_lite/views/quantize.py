"""What a conversion shows in a terminal."""

from __future__ import annotations

from holo_lite.views.run import Display, Pace
from quantize.convert import Advanced, Begun, Converted, Event, Note, Phase
from quantize.job import ConversionFinished

TITLES: dict[Phase, str] = {"check": "checking finished files", "convert": "converting", "hash": "hashing"}


def show(event: Event | ConversionFinished, view: Display) -> None:
    """Show one event of a conversion or a verification."""
    match event:
        case Begun(phase, total, done):
            view.begin(TITLES[phase], Pace(total, done, in_bytes=True))
        case Advanced(done, detail):
            view.advance(done, detail)
        case Note(text):
            view.say(f"note: {text}")
        case Converted():
            view.begin("comparing with the source", Pace())
        case ConversionFinished(conversion, quality):
            for line in quality.table():
                view.say(line)
            view.say(f"model          {conversion.out}")
            view.say(f"next           holo-lite generate STORYBOARD --model {conversion.out}")
