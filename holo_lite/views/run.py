"""What a person sees of a run: each event as lines, or as a move of the display."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from holo_lite.events import (
    Finished,
    FrameDone,
    GoingOn,
    NoLatents,
    NoPreview,
    NotSaved,
    PhaseAdvanced,
    PhaseStarted,
    PreviewDone,
    Resolved,
    StepDone,
    SteppedDown,
)
from holo_lite.jobs.batch import BatchEvent
from holo_lite.jobs.items import ItemStarted
from holo_lite.plan.plan import Plan
from holo_lite.settings import OFF, RunSettings
from holo_lite.system.units import duration_text, memory_text
from holo_lite.views.display import Display
from holo_lite.views.pace import Worth
from holo_lite.views.phases import begin
from holo_lite.views.terminal import opener, typed

NOTABLE = 0.05  # of a step; less is not shown
LONG = 60.0  # seconds from which on a phase is named in the summary


def show(event: BatchEvent, view: Display) -> None:
    """Show one event of a run."""
    match event:
        case PhaseStarted():
            _phase(event, view)
        case StepDone():
            view.advance(event.done, _step(event))
        case FrameDone(index, _):
            view.advance(index + 1, "frames")
        case PhaseAdvanced(done, _):
            view.advance(done, "frames")
        case PreviewDone(path, done):
            view.picture(path, f"preview        {path}, after step {done}")
        case Finished():
            _finished(event, view)
        case _:
            for line in _lines(event, view):
                view.say(line)


def _phase(event: PhaseStarted, view: Display) -> None:
    worth = _worth(view.whole.guided) if event.phase == "denoise" and view.whole.guided else float
    view.whole.phase(event.phase, begin(event, view, worth))


def _worth(guided: int) -> Worth:
    """How much work steps are, if the first `guided` of them are guided and the others take half as long."""
    return lambda done: (done + min(done, guided)) / 2


def _finished(event: Finished, view: Display) -> None:
    """The summary: where the video is and how long it took; of a run on its own also what to do with it."""
    view.end()
    for label, path in (("video", event.video), ("contact sheet", event.sheet)):
        if path is not None:
            view.say(f"{label:14} {path}", unbroken=True)
    if event.settings.cache != OFF:
        view.say(_skipped(event.settings))
    view.say(f"{'took':14} {_took(event.seconds, view.times)}")
    if event.video is not None and not view.whole.is_one_of_several:
        view.say(f"{'to watch':14} {opener(event.video)}", unbroken=True)
        view.say(f"{'to make again':14} {typed(['holo-lite', 'inspect', str(event.video)])}", unbroken=True)
    view.whole.finish()


def _took(seconds: float, phases: Mapping[str, float]) -> str:
    """How long the run took, and each of its long phases."""
    long = [f"{title} {duration_text(taken)}" for title, taken in phases.items() if taken >= LONG]
    return duration_text(seconds) + (f" ({', '.join(long)})" if long else "")


def _lines(event: BatchEvent, view: Display) -> Iterator[str]:
    """The lines for an event that is not part of a phase."""
    match event:
        case ItemStarted(item, number, total):
            view.end()
            view.whole.item(number, total, event.share, event.rest)
            yield f"{number} of {total}: {item.video}"
        case Resolved():
            view.end()
            _begin(event, view)
            yield from _resolved(event)
        case GoingOn():
            yield from _going_on(event)
        case NotSaved(why, saved):
            again = f"continue after step {saved}" if saved else "start over"
            yield f"warning: progress cannot be saved ({why}); if interrupted, the run will {again}"
        case NoLatents(why):
            yield f"warning: the video is whole, but its latents are not kept ({why}); to retake it costs a little"
        case NoPreview(why):
            yield f"note: the run continues without previews ({why})"
        case SteppedDown(_, change):
            yield f"memory ran out: continuing with {change}"


def _begin(event: Resolved, view: Display) -> None:
    """The clock of the whole run begins."""
    guided = event.settings.guided_steps
    view.whole.begin(event.work, guided if event.settings.is_guided and guided < event.settings.steps else 0)
    view.times.clear()


def _resolved(event: Resolved) -> Iterator[str]:
    """What is made, and how."""
    settings = event.settings
    size = f"{settings.width}×{settings.height}, {settings.shown.num_frames} frames"
    shots = "1 shot" if len(settings.shown_captions) == 1 else f"{len(settings.shown_captions)} shots"
    steps = "1 step" if settings.steps == 1 else f"{settings.steps} steps"
    yield f"{shots}, {size}, {steps}, seed {settings.seed}"
    yield from adapters(settings)
    yield from savings(settings)
    yield from (f"note: {note}" for note in event.notes)
    yield event.why
    yield from event.computing
    yield _planned(event.plan)


def adapters(settings: RunSettings) -> Iterator[str]:
    """Each LoRA that is added, to which expert and how strongly."""
    for lora in settings.lora:
        noise = lora.expert.removesuffix("_noise")
        yield f"LoRA: {lora.file} at strength {lora.strength:g}, in the {noise}-noise expert"


def savings(settings: RunSettings) -> Iterator[str]:
    """What the run skips, if anything, at a cost to the picture."""
    if settings.cache != OFF:
        high, low = (f"{threshold:g}" if threshold else "none" for threshold in settings.cache)
        yield f"step cache: thresholds {high} for high noise, {low} for low noise"
    if 0 < settings.guided_steps < settings.steps:
        yield f"guidance: in the first {settings.guided_steps} of {settings.steps} steps"


def _skipped(settings: RunSettings) -> str:
    """How many steps were skipped, and which."""
    numbers = settings.plan.get("skipped", ())
    which = f": {', '.join(map(str, numbers))}" if numbers else ""
    return f"skipped (cached): {len(numbers)} of {settings.steps} steps{which}"


def _going_on(event: GoingOn) -> Iterator[str]:
    """Where a run continues, and what has changed since."""
    left = ": only decoding is left" if event.done == event.steps else ""
    yield f"continuing after step {event.done} of {event.steps}{left}"
    if event.changes:
        yield f"note: changed since the start: {'; '.join(event.changes)}: the result may differ in the last bits"


def _step(event: StepDone) -> str:
    """Which expert the step belongs to, its memory of what was planned, and how long it waited for weights."""
    used, waiting = "", ""
    skipped = ", skipped (cached)" if event.skipped else ""
    if event.memory is not None:
        used = f", {memory_text(event.memory)} of {memory_text(event.planned)} VRAM"
    if event.waited_share >= NOTABLE:
        waiting = f", {event.waited_share:.0%} waiting for weights"
    return event.progress.step.expert.replace("_", "-") + skipped + used + waiting


def _planned(plan: Plan) -> str:
    """What a plan needs, on one line."""
    branches = "both guidance branches at once" if plan.joint else "one guidance branch at a time"
    kept = f"{plan.resident} of {plan.blocks} blocks resident{', a step cache' if plan.step_cache else ''}"
    return f"plan: at most {memory_text(max(plan.peak.values()))} of {plan.device} memory, {kept}, {branches}"
