"""Events as lines of JSON on standard output, for `--progress json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from holo_lite.commands.talking import messages


def write_event(event: object) -> None:
    """Write an event as one line."""
    from holo_lite.eventjson.event_json import event_json

    click.echo(json.dumps(event_json(event), allow_nan=False))


@contextmanager
def shown_by(show: Callable[[Any, Any], None], progress: str) -> Iterator[Callable[[Any], None]]:
    """What shows an event: to a person on standard error by `show`, or as a line of JSON."""
    from holo_lite.views.display import display

    if progress == "json":
        yield write_event
        return
    with display(messages()) as view:
        yield lambda event: show(event, view)
