"""An event of any job as a record for JSON; docs/events.md names every kind and field.

Where a process only fetches, PyTorch need not come in: the forms of other jobs' events are looked up when there is
one.
"""

from __future__ import annotations

from typing import Any

from holo_lite.eventjson.form import form, plain

VERSION = 1  # another one where a field goes or means something else; kinds and fields may be added to this one


def event_json(event: object) -> dict[str, Any]:
    """An event of a run, a fetch, a conversion, an evaluation or a batch, as `json.dumps` takes it.

    `version` and `kind` say what it is. Numbers are finite, paths are text, and there is no tensor in it. Raises
    `TypeError` for what is no event.
    """
    if type(event) not in form.registry:
        import holo_lite.eventjson.forms  # noqa: F401 - it registers them
    kind, fields = form(event)
    return {"version": VERSION, "kind": kind, **plain(fields)}
