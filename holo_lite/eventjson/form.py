"""What an event is in JSON, by its class; here those of fetching, and of the words all work shares.

A form is the record's kind and its fields, which `plain` can take: latents and pixels are part of none.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from functools import singledispatch
from pathlib import Path
from typing import Any

from holo_lite.fetch.order import Fetched, FetchOrder
from holo_lite.progress import Note, PhaseAdvanced, PhaseStarted

Form = tuple[str, dict[str, Any]]


@singledispatch
def form(event: object) -> Form:
    """Kind and fields of an event. Raises `TypeError` for what is none."""
    raise TypeError(f"{type(event).__name__} is no event of a job")


@form.register
def _(event: PhaseStarted) -> Form:
    total, done = event.total, event.done
    return "phase", {
        "phase": event.phase,
        "total": total,
        "done": done,
        "unit": event.unit,
        "subject": event.subject,
    }


@form.register
def _(event: PhaseAdvanced) -> Form:
    return "advance", {"done": event.done, "detail": event.detail}


@form.register
def _(event: Note) -> Form:
    return "note", {"text": event.text}


@form.register
def _(event: FetchOrder) -> Form:
    licences = [{"of": each.name, "licence": each.licence} for each in event.licences]
    nbytes = sum(item.file.nbytes for item in event.items)
    return "order", {
        "folder": event.folder,
        "bytes": nbytes,
        "room": event.room,
        "free": event.free,
        "licences": licences,
    }


@form.register
def _(event: Fetched) -> Form:
    return "fetched", {"folder": event.order.folder, "seconds": event.seconds}


def plain(value: object) -> Any:
    """A value as JSON has it: records become objects, paths texts, numbers that are none null.

    Raises `TypeError` for what has no such form, a tensor above all.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no form in JSON")
