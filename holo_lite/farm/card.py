"""What is done on one card: the model is opened once, then a clip after the other is looked at or made.

It runs in the process that the cluster started for the card, and needs no other: that process is alone with its
card already, and when it dies the cluster says so. It is asked by records and answers with records, all of them
JSON text: no object of ours, and no tensor, goes over the network.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from holo_lite.cancel import Cancel, Cancelled
from holo_lite.errors import HoloError, OutputError, RunError
from holo_lite.eventjson.event_json import event_json
from holo_lite.events import Events
from holo_lite.farm.shared import Note
from holo_lite.jobs.batch import as_remembered, decide, saved_run
from holo_lite.jobs.items import BatchItem, ItemEnded
from holo_lite.jobs.preview import previewed
from holo_lite.render.job import Job
from holo_lite.render.pipeline import Pipeline
from holo_lite.runs.folder import RunFolder
from holo_lite.story.files import load_storyboard
from holo_lite.version import __version__
from holo_lite.worker.making import Models
from holo_lite.worker.order import ORDER, Order

LATE = 120  # seconds in which a disk shows what a machine wrote before it died, and frees what that had locked
Answer = dict[str, Any]


class Card:
    """One card. All methods but `cancel` are called one after the other."""

    def __init__(self) -> None:
        self._models, self._cancel, self._cards = Models(), Cancel(), 1

    def answer(self, asked: str) -> Iterator[str]:
        """Do what is asked; the last record says how it ended."""
        request = json.loads(asked)
        work = {"open": self._open, "look": self._look, "make": self._make}[request["do"]]
        for record in work(request):
            yield json.dumps(record)

    def cancel(self) -> None:
        """Have the clip end that is being made, from another thread; for good."""
        self._cancel.cancel()

    def _open(self, request: Mapping[str, Any]) -> Iterator[Answer]:
        order = ORDER.of_table(request["order"])
        try:
            _check_version(request["version"])
            _check_shared(Note(**request["note"]), request["sources"])
            self._cards = request["cards"]
            pipeline = self._opened(order)
        except HoloError as error:
            yield {"kind": "closed", "why": str(error), "error": type(error).__name__}
            return
        yield {"kind": "opened", "card": f"{pipeline.choice.machine.name or 'CPU'}, {pipeline.choice.profile.name}"}

    def _opened(self, order: Order) -> Pipeline:
        """The model, opened once; its runs are planned for this card's part of the machine's main memory."""
        pipeline = self._models.open(order)
        machine = pipeline.choice.machine
        choice = dataclasses.replace(pipeline.choice, machine=machine.shared_by(self._cards))
        return dataclasses.replace(pipeline, choice=choice)

    def _look(self, request: Mapping[str, Any]) -> Iterator[Answer]:
        orders = [ORDER.of_table(each) for each in request["orders"]]
        yield {"kind": "looked", "found": [self._found(order) for order in orders]}

    def _found(self, order: Order) -> Answer:
        """What is to be done about a clip."""
        try:
            pipeline = self._opened(order)
            found = decide(pipeline, _item(order), order.options, again=order.overwrite)
        except HoloError as error:
            return _failed(error)
        if isinstance(found, ItemEnded):
            return _end(found)
        return {"state": "make", "work": sum(pipeline.work(found).values())}

    def _make(self, request: Mapping[str, Any]) -> Iterator[Answer]:
        order = ORDER.of_table(request["order"])
        try:
            if request["lost"]:
                self._await(Path(order.out), request["saved"])
            yield from self._made(order, request.get("ahead", ()))
        except Cancelled:
            yield {"kind": "ended", "state": "cancelled"}
        except (HoloError, OSError) as error:
            yield {"kind": "ended", **_failed(error)}

    def _made(self, order: Order, ahead: Sequence[Any]) -> Iterator[Answer]:
        """Make a clip, unless it is there by now."""
        self._cancel.check()
        pipeline = self._opened(order)
        found = decide(pipeline, _item(order), order.options, again=order.overwrite)
        if isinstance(found, ItemEnded):
            yield {"kind": "ended", **_end(found)}
            return
        yield from self._read_ahead(pipeline, found, ahead)
        with closing(self._run(pipeline, found, order)) as events:
            for event in events:
                yield event_json(event)
                del event  # or the latents of a step stay on the card until the next
        yield {"kind": "ended", "state": "done"}

    def _read_ahead(self, pipeline: Pipeline, job: Job, ahead: Sequence[Any]) -> Iterator[Answer]:
        """Where the text encoder must be opened, have it read the prompts of what comes next, too."""
        if not ahead or pipeline.has_read(job):
            return
        jobs = [dataclasses.replace(job, cancel=self._cancel)]
        for table in ahead:
            with suppress(HoloError):  # whoever makes it reports it
                order = ORDER.of_table(table)
                jobs.append(pipeline.prepare(load_storyboard(Path(order.storyboard or "")), order.options))
        with suppress(HoloError):
            yield from map(event_json, pipeline.read_ahead(jobs))

    def _run(self, pipeline: Pipeline, job: Job, order: Order) -> Events:
        video = Path(order.out)
        job = dataclasses.replace(as_remembered(job), cancel=self._cancel)
        events = saved_run(pipeline, job, video, latents=order.latents)
        if not order.preview:
            return events
        return previewed(events, pipeline.model, video, order.preview, overwrite=order.overwrite)

    def _await(self, video: Path, saved: int) -> None:
        """Wait until this machine sees the steps that another saved before it died, and may take its folder.

        A disk over the network may show a file late, and may let go of a dead machine's lock late.
        """
        for _ in range(LATE):
            if video.exists() or _is_ready(RunFolder.beside(video), saved):
                return
            self._cancel.wait(1.0)


def _is_ready(folder: RunFolder, saved: int) -> bool:
    if saved and not folder.has_state:
        return False
    if not folder.path.exists():
        return True
    try:
        with folder.held():
            return True
    except RunError:
        return False


def _item(order: Order) -> BatchItem:
    return BatchItem(Path(order.storyboard or ""), Path(order.out))


def _end(ended: ItemEnded) -> Answer:
    return {"state": ended.state, "why": ended.why, "error": ""}


def _failed(error: HoloError | OSError) -> Answer:
    return {"state": "failed", "why": str(error), "error": type(error).__name__}


def _check_version(version: str) -> None:
    if version != __version__:
        raise RunError(f"it has holo-lite {__version__}, the driver {version}; install the same on all machines")


def _check_shared(note: Note, sources: Sequence[str]) -> None:
    """Raise `OutputError` for a machine that does not see the films' folder or a storyboard."""
    if not note.is_seen():
        raise OutputError(f"it does not see {Path(note.path).parent}; mount the disk there, under the same name")
    missing = [source for source in sources if not Path(source).exists()]
    if missing:
        raise OutputError(f"it does not see {missing[0]}; put the storyboards on the disk that all machines share")
