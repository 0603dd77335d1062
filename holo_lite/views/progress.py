"""What a person sees of work that is not a run: fetching files, converting and hashing them."""

from __future__ import annotations

from holo_lite.fetch.run import Fetched
from holo_lite.progress import Note, PhaseAdvanced, PhaseEvent, PhaseStarted
from holo_lite.views.run import Display, begin
from holo_lite.views.terminal import typed
from quantize.job import ConversionFinished


def show(event: PhaseEvent | Fetched | ConversionFinished, view: Display) -> None:
    """Show one event of it."""
    match event:
        case PhaseStarted():
            begin(event, view)
        case PhaseAdvanced(done, detail):
            view.advance(done, detail or "done")
        case Note(text):
            view.say(f"note: {text}")
        case Fetched(order):
            view.say(f"model          {order.folder}")
        case ConversionFinished(conversion, quality):
            for line in quality.table():
                view.say(line)
            view.say(f"model          {conversion.out}")
            following = ["holo-lite", "generate", "STORYBOARD", "--model", str(conversion.out)]
            view.say(f"next           {typed(following)}")
