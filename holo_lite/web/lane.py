"""One process that renders, on one device or on several together, and the job that it makes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, Protocol

from holo_lite.web.book import JobEntry
from holo_lite.web.progress import RunProgress
from holo_lite.worker.client import Hear, Record

AUTO = "auto"  # whatever device an order names
Place = str | tuple[str, ...]  # a device, or several that make one film together
Wish = Literal["cancelled", "paused"]


class Renderer(Protocol):
    """The process that renders, as a lane needs it."""

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""

    def start(self) -> None:
        """Start it."""

    def make(self, name: str, order: dict[str, Any]) -> None:
        """Ask for a video."""

    def cancel(self, name: str) -> None:
        """Ask for one to be cancelled."""

    def stop(self) -> None:
        """Have it end after its block."""

    def kill(self) -> None:
        """End it at once."""


class RenderLane:
    """A place and its process, which is started when there is something to make. Not for several threads at once.

    hear: told, with the lane, what the process tells, from a thread of its own. job, live, wish: what is made, how
    far it is, and what a person wants of it instead.
    """

    def __init__(
        self, place: Place, renderer: Callable[[Hear], Renderer], hear: Callable[[RenderLane, Record], None]
    ) -> None:
        self.place, self._make_renderer, self._hear = place, renderer, hear
        self._renderer: Renderer | None = None
        self.job: str | None = None
        self.live: RunProgress | None = None
        self.wish: Wish | None = None

    def begin(self, entry: JobEntry, live: RunProgress) -> None:
        """Begin a job."""
        assert self.job is None, "one at a time"
        self.job, self.live, self.wish = entry.id, live, None
        if self._renderer is None or not self._renderer.is_alive:
            self._renderer = self._make_renderer(partial(self._hear, self))
            self._renderer.start()
        self._renderer.make(entry.id, at_place(entry.order, self.place))

    def leave(self, wish: Wish) -> None:
        """Have the job end, its finished steps kept; asked twice, its process is ended at once."""
        assert self._renderer is not None, "a job that runs has a process"
        assert self.job is not None, "a job runs"
        asked, self.wish = self.wish is not None, wish
        if asked:  # in a thread: it waits for the reader of the process, which waits for whoever asks
            threading.Thread(target=self._renderer.kill, daemon=True).start()
        else:
            self._renderer.cancel(self.job)

    def free(self) -> None:
        """The job is over."""
        self.job = self.live = self.wish = None

    def stop(self) -> None:
        """End the process after its block."""
        if self._renderer is not None:
            self._renderer.stop()


def at_place(order: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """An order for a place."""
    if place == AUTO:
        return dict(order)
    here = {"device": place} if isinstance(place, str) else {"devices": list(place)}
    return {**order, "opening": {**order.get("opening", {}), **here}}
