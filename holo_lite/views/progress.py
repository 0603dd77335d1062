"""What a person sees of work that is not a run: fetching files, converting and hashing them."""

from __future__ import annotations

from holo_lite.fetch.order import Fetched
from holo_lite.progress import Note, PhaseAdvanced, PhaseEvent, PhaseStarted
from holo_lite.system.units import bytes_text, duration_text
from holo_lite.views.display import Display
from holo_lite.views.phases import begin
from holo_lite.views.terminal import typed
from quantize.convert import ConversionFinished


def show(event: PhaseEvent | Fetched | ConversionFinished, view: Display) -> None:
    """Show one event of it."""
    match event:
        case PhaseStarted():
            begin(event, view)
        case PhaseAdvanced(done, detail):
            view.advance(done, detail or "done")
        case Note(text):
            view.say(f"note: {text}")
        case Fetched(order, seconds):
            view.end()
            view.say(f"model          {order.folder}", unbroken=True)
            view.say(f"size           {bytes_text(sum(item.file.nbytes for item in order.items))}")
            view.say(f"took           {duration_text(seconds)}")
        case ConversionFinished():
            _converted(event, view)


def _converted(event: ConversionFinished, view: Display) -> None:
    """How good the model is, where it is, how large, how long it took, and what to type next."""
    view.end()
    for line in event.quality.table():
        view.say(line)
    out = event.conversion.out
    view.say(f"model          {out}", unbroken=True)
    view.say(f"size           {bytes_text(event.conversion.nbytes)}")
    view.say(f"took           {duration_text(event.seconds)}")
    following = ["holo-lite", "generate", "STORYBOARD", "--model", str(out)]
    view.say(f"next           {typed(following)}", unbroken=True)
