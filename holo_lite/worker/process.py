"""The process that renders: orders from its standard input, records on its standard output, one a line.

It takes one order at a time. What libraries print goes to standard error, so that nothing but records is on the
pipe. An error that a person can mend ends its order; one of our own ends the process, which tells whoever started
it. After an idle time the model is let go, and with it the memory of the card.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from holo_lite.cancel import Cancelled
from holo_lite.errors import HoloError, RanksError
from holo_lite.system.garbage import bringing_torch
from holo_lite.version import __version__
from holo_lite.worker.asked import Asked, Inbox
from holo_lite.worker.lines import VERSION, line

if TYPE_CHECKING:
    from holo_lite.worker.making import Models

End = Literal["done", "there", "failed", "cancelled"]


@dataclass
class Channel:
    """Where records are written. A reader that is gone is no error: standard input is closed, too, then."""

    descriptor: int
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of_standard_output(cls) -> Channel:
        """Standard output for records alone; what anybody prints goes to standard error."""
        own = os.dup(1)
        os.dup2(2, 1)
        return cls(own)

    def tell(self, kind: str, **fields: Any) -> None:
        """Write a record of the process itself."""
        self.write({"version": VERSION, "kind": kind, **fields})

    def write(self, record: Mapping[str, Any]) -> None:
        """Write any record, whole."""
        left = memoryview(line(record))
        with self._lock:
            try:
                while left:
                    left = left[os.write(self.descriptor, left) :]
            except BrokenPipeError:
                return

    def ended(self, name: str, state: End, why: str = "", kind: str = "") -> None:
        """Tell how an order ended; kind: of the error."""
        self.tell("ended", order=name, state=state, why=why, error=kind)


def serve(descriptor: int, channel: Channel, idle: float | None = None) -> None:
    """Carry out orders until the pipe is closed; idle: seconds after which a model that nobody wants is let go."""
    inbox = Inbox(lambda name, why: channel.ended(name, "failed", why, "RecordError"))
    inbox.listen(descriptor)
    channel.tell("ready", holo_lite=__version__, process=os.getpid())
    models: Models | None = None
    while True:
        try:
            asked = inbox.next(idle if models is not None and models.is_open else None)
        except queue.Empty:
            assert models is not None, "only an open model is let go"
            models.close()
            _give_back()
            channel.tell("let_go")
            continue
        if asked is None:
            return
        models = models or _models()
        _carry_out(asked, models, channel)
        inbox.done(asked)


def _carry_out(asked: Asked, models: Models, channel: Channel) -> None:
    try:
        end = _make(asked, models, channel)
    except Cancelled:
        channel.ended(asked.name, "cancelled")
    except HoloError as error:
        if isinstance(error, RanksError):  # the next order starts ranks of its own
            models.close()
        channel.ended(asked.name, "failed", str(error), type(error).__name__)
    else:
        channel.ended(asked.name, end)


def _make(asked: Asked, models: Models, channel: Channel) -> End:
    """Make a video, or find that it is there."""
    from holo_lite.eventjson.event_json import event_json
    from holo_lite.worker.making import begin

    asked.cancel.check()
    begun = begin(asked.order, models.open(asked.order), asked.cancel)
    if begun is None:
        return "there"
    with closing(begun) as events:
        for event in events:
            channel.write({**event_json(event), "order": asked.name})
            del event  # or the latents of a step stay on the card until the next
    return "done"


def _models() -> Models:
    """PyTorch comes in with the first order."""
    with bringing_torch():
        from holo_lite.worker.making import Models

    return Models()


def _give_back() -> None:
    """Return the card's memory that PyTorch keeps for later."""
    import gc

    import torch

    gc.collect()
    torch.cuda.empty_cache()  # nothing where no card was used
