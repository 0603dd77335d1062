"""Interrupted runs: the folder, and the files in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from holo_lite.errors import CheckpointError, LaterRecordError, OutputError, RecordError
from holo_lite.inspection.latents import latent_text
from holo_lite.inspection.lines import do, fact, length, some
from holo_lite.reading.files import read_bytes
from holo_lite.runs.damage import damaged
from holo_lite.runs.folder_names import RECORD as FILE
from holo_lite.runs.record import RECORD, Record
from holo_lite.runs.state_facts import CACHES, LATENTS, STATE, StateFacts, look_at_state, steps_done
from holo_lite.settings import SETTINGS
from holo_lite.system.units import bytes_text
from holo_lite.views.records import as_written, not_known_here
from holo_lite.weights.plain_header import read_plain_header

LATER = "a later holo-lite wrote it, in a form this one does not know; update holo-lite to go on with it"


def run(path: Path) -> Iterator[str]:
    """A run's folder, or the record in it. Raises `RunError` for a damaged one."""
    place = path / FILE if path.is_dir() else path
    try:
        text = read_bytes(place)
        record = RECORD.read(text, to_run=False)
    except LaterRecordError:
        yield from as_written(text)
        return
    except OSError as error:
        raise OutputError(f"{place}: cannot be read ({error.strerror})") from error
    except RecordError as error:
        raise damaged(place, error) from error
    folder, settings = place.parent, record.settings
    video = f"which makes {record.out!r}: {length(settings.shown.num_frames, settings.fps)}"
    if place.name == FILE:
        yield f"run folder {folder}, {video}"
        yield fact("progress", _progress(steps_done(folder), settings.steps))
        yield from _files(folder)
    else:
        yield f"record of a run, {video}"
        yield f"  It is apart from its run's folder, where it is called {FILE}: the run cannot be continued here."
    yield fact("video", f"{settings.width}×{settings.height}, {some(len(settings.shown_captions), 'shot')}")
    yield fact("computed", f"{settings.dtype} on {settings.device}, model {settings.model}")
    yield fact("begun with", f"{settings.made_with}, profile {record.plan.profile}, seed {settings.seed}")
    yield from _unknown(record)
    if place.name == FILE:
        yield do("continue it", "resume", folder)


def run_state(path: Path) -> Iterator[str]:
    """The state of a run after a step. Raises `RunError` for a damaged one."""
    try:
        facts, shape = look_at_state(path), read_plain_header(path).entries[LATENTS].shape
    except LaterRecordError:
        yield f"state of an interrupted run; {LATER}"
        return
    except (CheckpointError, RecordError, KeyError) as error:
        raise damaged(path, error) from error
    yield f"state of an interrupted run after {some(facts.done, 'step')}"
    yield fact("latents", latent_text(shape))
    yield from _state_facts(facts)
    yield do("continue the run", "resume", path.parent)


def step_cache(path: Path) -> Iterator[str]:
    """What a run's step cache remembers. Raises `RunError` for a damaged one."""
    try:
        entries = read_plain_header(path).entries
    except CheckpointError as error:
        raise damaged(path, error) from error
    size = sum(entry.nbytes for entry in entries.values())
    yield f"step cache of an interrupted run: {bytes_text(size)}"
    yield do("continue the run", "resume", path.parent)


def _progress(done: int | None, steps: int) -> str:
    if done is None:
        return "interrupted after a number of steps this version cannot read"
    if done >= steps:
        return f"all {some(steps, 'step')} are done; decoding remains"
    return f"interrupted after step {done} of {steps}"


def _files(folder: Path) -> Iterator[str]:
    """What is kept of it: latents and the step cache."""
    path = folder / STATE
    if path.is_file():
        try:
            entry = read_plain_header(path).entries.get(LATENTS)
        except CheckpointError as error:
            raise damaged(path, error) from error
        if entry is not None:
            yield fact("latents", latent_text(entry.shape))
    if caches := [file for file in sorted(folder.glob(CACHES)) if file.is_file()]:
        size = sum(file.stat().st_size for file in caches)
        yield fact("step cache", f"{bytes_text(size)} in {some(len(caches), 'file')}")


def _state_facts(facts: StateFacts) -> Iterator[str]:
    yield fact("made with", f"{facts.made_with or 'an unnamed version'}, profile {facts.plan.profile}")
    if facts.circumstances:
        yield fact("on", ", ".join(f"{name} {value}" for name, value in facts.circumstances.items()))
    if facts.cache is not None:
        yield fact("step cache", facts.cache.file)


def _unknown(record: Record) -> Iterator[str]:
    for origin, codec in ((record.origin, RECORD), (record.settings.origin, SETTINGS)):
        yield from (f"  {line}" for line in not_known_here(origin, codec.current))
