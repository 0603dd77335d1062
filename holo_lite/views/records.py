"""What a person is shown of a record that another version wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator

from holo_lite.reading.trees import parse
from holo_lite.system.records import Origin


def not_known_here(origin: Origin, current: Origin) -> Iterator[str]:
    """Say that a later version wrote a record, if this one may go on with it, and what is not known here."""
    if origin.version > current.version:
        may = "can also" if origin.runs_from <= current.version else "is too old to"
        yield f"written by a later holo-lite (record version {origin.version}); this one {may} go on with it"
    yield from (f"not known to this version: {line}" for line in origin.lines())


def as_written(text: str | bytes) -> Iterator[str]:
    """A later version's record of which this one knows only that it is JSON. Raises `RecordError`."""
    yield "written by a later holo-lite, in a form this one does not know; update holo-lite to go on with it"
    yield from json.dumps(parse(text), indent=1).splitlines()
