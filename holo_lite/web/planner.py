"""The process that plans: questions on its standard input, the newest answered, and gone when nobody asks.

A question is a line of JSON: `ask`, a name for the answer; `order`, as docs/worker.md has it; `emptied`, whether to
plan for this machine as it is when nothing else holds its memory.

A plan needs PyTorch, which the server never imports. On a machine with a card, its free memory is asked by a
process that has ended before the answer is used: asking takes a part of the card for as long as whoever asked
lives.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from holo_lite.errors import FitError, HoloError
from holo_lite.reading.trees import parse
from holo_lite.system.garbage import bringing_torch
from holo_lite.worker.lines import lines
from holo_lite.worker.process import Channel

if TYPE_CHECKING:
    from holo_lite.plan.advice import Advice
    from holo_lite.plan.machine import Machine
    from holo_lite.story.storyboard import Storyboard
    from holo_lite.worker.order import Order

Seen: TypeAlias = "Callable[[str], Machine | None]"  # this machine with a device, by its name
IDLE = 60.0  # seconds without a question after which it ends
FRESH = 60.0  # seconds for which what was said of the machine counts
PATIENCE = 120.0  # seconds a machine may take to be asked


@dataclass
class Surroundings:
    """This machine with each of its cards, by their numbers, as it was a short while ago."""

    _found: dict[int, tuple[float, Machine]] = field(default_factory=dict)
    _clock: Any = field(default=time.monotonic)

    def machine(self, device: str = "auto", *, emptied: bool = False) -> Machine | None:
        """It with that card, asked again after a while; None: there is no card, and whoever plans may look.

        emptied: as it is when nothing else holds its memory. That changes no more, so it is asked only once.
        """
        import torch

        from holo_lite.plan.machine import this_machine

        if not torch.cuda.is_available():
            return _emptied(this_machine()) if emptied else None
        number = torch.device(device).index or 0 if device.startswith("cuda") else 0
        asked, found = self._found.get(number, (0.0, None))
        if found is None or (not emptied and self._clock() - asked > FRESH):
            found = _asked_apart(number)
            self._found[number] = (self._clock(), found)
        return _emptied(found) if emptied else found


def _emptied(machine: Machine) -> Machine:
    return replace(machine, free=machine.card, ram_free=machine.ram)


def serve(descriptor: int, channel: Channel) -> None:
    """Answer questions until the pipe is closed, or none has come for a while."""
    newest: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=_read, args=(descriptor, newest), daemon=True).start()
    surroundings = Surroundings()
    while True:
        try:
            question = _last(newest)
        except queue.Empty:
            return
        if question is None:
            return
        channel.tell("plan", ask=question.get("ask"), **_answer(question, surroundings))


def _read(descriptor: int, newest: queue.Queue[dict[str, Any] | None]) -> None:
    for text in lines(descriptor):
        try:
            found = parse(text)
        except HoloError:
            continue
        if isinstance(found, dict):
            newest.put(found)
    newest.put(None)


def _last(newest: queue.Queue[dict[str, Any] | None]) -> dict[str, Any] | None:
    """The newest question; those before it are not asked any more. Raises `queue.Empty`."""
    found = newest.get(timeout=IDLE)
    while found is not None and not newest.empty():
        found = newest.get()
    return found


def _answer(question: dict[str, Any], surroundings: Surroundings) -> dict[str, Any]:
    """What a plan says; where it cannot be made, why, and which kind of error that is."""
    from holo_lite.worker.order import ORDER

    try:
        seen = partial(surroundings.machine, emptied=question.get("emptied") is True)
        return {"state": "fits", **_planned(ORDER.of_table(question.get("order")), seen)}
    except FitError as error:
        return {"state": "does not fit", "why": str(error), "error": type(error).__name__}
    except HoloError as error:
        return {"state": "unknown", "why": str(error), "error": type(error).__name__}


def _planned(order: Order, seen: Seen) -> dict[str, Any]:
    """What `plan` says of an order. Its pictures are opened before, so that a damaged one is found now."""
    from holo_lite.directing.pictures import read_picture
    from holo_lite.story.files import load_storyboard
    from holo_lite.tiny.model import tiny_model

    assert order.storyboard is not None, "a draft is a storyboard"
    board = load_storyboard(Path(order.storyboard))
    for each in board.memory:
        if each.image is not None:
            read_picture(Path(each.image))
    model = order.model if order.model is not None else tiny_model()
    return _together(board, order, model, seen) or _alone(board, order, model, seen)


def _together(board: Storyboard, order: Order, model: str | Path, seen: Seen) -> dict[str, Any] | None:
    """What is said of several devices that make a film; None: there is one. Raises `FitError`."""
    with bringing_torch():
        from holo_lite.preflight.together import forecast_together
        from holo_lite.views.together import together_answer, together_lines

    found = forecast_together(board, order.options, model, order.opening.options, machines=seen)
    if isinstance(found, FitError):
        raise found
    if found is None:
        return None
    fullest = max(found.spread.plans, key=lambda plan: max(plan.peak.values()) / plan.budget)
    return {
        "text": together_answer(found),
        "seconds": None,
        "memory": {"peak": max(fullest.peak.values()), "budget": fullest.budget},
        "lines": list(together_lines(found)),
        "advice": [],
    }


def _alone(board: Storyboard, order: Order, model: str | Path, seen: Seen) -> dict[str, Any]:
    """What is said of one device."""
    from holo_lite.preflight.forecast import forecast
    from holo_lite.preflight.target import ForecastPlace
    from holo_lite.views.forecast import answer, forecast_lines

    how = order.opening.options
    found = forecast(board, order.options, model, replace(how, devices=()), ForecastPlace(machine=seen(how.device)))
    advice = [f"the longest that fits: {length(found.longest)}"] if found.longest else []
    advice += [f"the largest that fits: {found.largest.width}×{found.largest.height}"] if found.largest else []
    return {
        "text": answer(found),
        "seconds": found.seconds,
        "memory": {"peak": max(found.plan.peak.values()), "budget": found.plan.budget},
        "lines": list(forecast_lines(found)),
        "advice": [{"text": text, "op": None} for text in advice],
    }


def length(advice: Advice) -> str:
    """How long a clip is, in words: where it is typed, options say it."""
    seconds = f", {advice.seconds:.1f} s" if advice.seconds is not None else ""
    return f"{advice.frames} frames{seconds}"


def _asked_apart(number: int) -> Machine:
    """This machine by the word of a process that has ended. Raises `HoloError` as `this_machine` does."""
    from holo_lite.errors import RoomError
    from holo_lite.plan.machine import Machine

    words = [sys.executable, "-P", "-m", "holo_lite.web.planner", "--machine", str(number)]
    done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False)
    try:
        found = json.loads(done.stdout)["found"]
    except (ValueError, LookupError):
        raise RoomError(
            "this machine's card could not be asked for its memory; `holo-lite doctor` says more"
        ) from None
    if "error" in found:
        raise RoomError(str(found["error"]))
    return Machine(**found)


def _tell_machine(number: int) -> None:
    """Write what this machine has, with the card of that number, as JSON, and end."""
    from holo_lite.plan.machine import this_machine

    try:
        found: dict[str, Any] = dict(vars(this_machine(number)))
    except HoloError as error:
        found = {"error": str(error)}
    Channel.of_standard_output().tell("machine", found=found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--machine"]:
        _tell_machine(int(sys.argv[2]))
    else:
        serve(0, Channel.of_standard_output())
