"""What the events of runs, conversions, evaluations and batches are in JSON."""

from __future__ import annotations

import json
from typing import Any

from holo_lite.evaluation.outcome import EvaluationStarted, StoryboardJudged, Verdict
from holo_lite.eventjson.form import Form, form
from holo_lite.events import (
    Finished,
    FrameDone,
    GoingOn,
    LatentsDone,
    NoLatents,
    NoPreview,
    NotSaved,
    PreviewDone,
    Resolved,
    StepDone,
    SteppedDown,
)
from holo_lite.jobs.items import ItemEnded, ItemStarted
from holo_lite.settings import RunSettings
from quantize.convert import ConversionFinished


@form.register
def _(event: Resolved) -> Form:
    return "resolved", {
        "settings": _settings(event.settings),
        "notes": event.notes,
        "plan": event.plan,
        "why": event.why,
        "computing": event.computing,
        "work": event.work,
    }


@form.register
def _(event: GoingOn) -> Form:
    steps, changes = event.steps, event.changes
    return "going_on", {"folder": event.folder, "done": event.done, "total": steps, "changes": changes}


@form.register
def _(event: StepDone) -> Form:
    return "step", {
        "done": event.done,
        "total": event.steps,
        "expert": event.progress.step.expert,
        "skipped": event.skipped,
        "seconds": event.seconds,
        "waited": event.waited,
        "memory": event.memory,
        "planned": event.planned,
    }


@form.register
def _(event: PreviewDone) -> Form:
    return "preview", {"path": event.path, "done": event.done}


@form.register
def _(event: NoLatents) -> Form:
    return "no_latents", {"why": event.why}


@form.register
def _(event: NoPreview) -> Form:
    return "no_preview", {"why": event.why}


@form.register
def _(event: SteppedDown) -> Form:
    return "smaller_plan", {"plan": event.plan, "change": event.change}


@form.register
def _(event: NotSaved) -> Form:
    return "not_saved", {"why": event.why, "saved": event.saved}


@form.register
def _(event: FrameDone) -> Form:
    return "frame", {"done": event.index + 1}


@form.register
def _(event: LatentsDone) -> Form:
    return "latents", {"settings": _settings(event.settings), "plan": event.plan}


@form.register
def _(event: Finished) -> Form:
    settings = _settings(event.settings)
    return "finished", {"video": event.video, "sheet": event.sheet, "settings": settings, "seconds": event.seconds}


@form.register
def _(event: ConversionFinished) -> Form:
    conversion = event.conversion
    errors = event.quality.summary()
    return "converted", {
        "folder": conversion.out,
        "bytes": conversion.nbytes,
        "errors": errors,
        "seconds": event.seconds,
    }


@form.register
def _(event: EvaluationStarted) -> Form:
    return "evaluation", {
        "total": event.storyboards,
        "settings": _settings(event.settings),
        "notes": event.notes,
        "computing": event.computing,
    }


@form.register
def _(event: StoryboardJudged) -> Form:
    outcome = event.outcome
    return "judged", {
        "done": outcome.index + 1,
        "seed": outcome.settings.seed,
        "marks": _marks(outcome.verdict),
        "baseline": None if outcome.baseline is None else _marks(outcome.baseline),
        "likeness": outcome.likeness,
        "skipped": outcome.skipped,
    }


@form.register
def _(event: ItemStarted) -> Form:
    item = event.item
    return "item", {
        "storyboard": item.storyboard,
        "video": item.video,
        "number": event.number,
        "of": event.total,
        "share": event.share,
        "rest": event.rest,
    }


@form.register
def _(event: ItemEnded) -> Form:
    item = event.item
    return "item_ended", {
        "storyboard": item.storyboard,
        "video": item.video,
        "state": event.state,
        "why": event.why,
        "seconds": event.seconds,
    }


def _settings(settings: RunSettings) -> Any:
    """As a video carries them."""
    return json.loads(settings.to_json())


def _marks(verdict: Verdict) -> dict[str, tuple[int, int]]:
    """Hits and chances, by score."""
    return {name: (count.hits, count.of) for name, count in verdict.marks.items()}
