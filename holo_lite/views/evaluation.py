"""What the gate shows in a terminal, in lines of at most 100 columns."""

from __future__ import annotations

from collections.abc import Iterator

from holo_lite.evaluation.marks import mean_of
from holo_lite.evaluation.outcome import EvaluationStarted, Event, StoryboardJudged
from holo_lite.evaluation.report import MOST_APART, QualityReport
from holo_lite.evaluation.scores import Estimate, Score
from holo_lite.settings import OFF
from holo_lite.views.display import Display
from holo_lite.views.run import savings

PHASE = "making and reading"
NOTHING = "-"
APART = "first frame from its picture, of 255"
LIKENESS = {"psnr": "PSNR, dB", "ssim": "SSIM", "latents": "relative error of the latents"}


def show(event: Event, view: Display) -> None:
    """Show one event of a run."""
    match event:
        case EvaluationStarted(storyboards, settings, notes, computing):
            size = f"{settings.width}×{settings.height}"
            count = "1 storyboard" if storyboards == 1 else f"{storyboards} storyboards"
            view.say(f"{count}, {size}, {settings.steps} steps, guidance {settings.cfg:g}")
            for line in savings(settings):
                view.say(line)
            for note in notes:
                view.say(f"note: {note}")
            for line in computing:
                view.say(line)
            view.begin(PHASE, storyboards)
        case StoryboardJudged(outcome):
            saved = f", {outcome.skipped} steps skipped (cached)" if outcome.skipped else ""
            view.advance(outcome.index + 1, f"storyboards, the last {mean_of(outcome.verdict.marks):.0%}{saved}")


def report_lines(report: QualityReport) -> Iterator[str]:
    """The table: per score its 95 % interval and the number of chances, next to it the baseline's."""
    yield _row("score", "of", "model", *((report.names.beside or "", "ratio") if report.baseline else ()))
    for name, score in report.scores.items():
        yield _row(name, str(score.of), _percent(score.share), *_beside(report, name))
    for name, estimate in report.likeness.items():
        yield f"{LIKENESS[name]:30} {_plain(estimate)}"
    if report.apart:
        yield f"{APART}  {_levels(report.apart)}"
    for name, least in report.short.items():
        yield f"{name}: {_number(report.scores[name].share.value)} is below its target, {_number(least)}"
    if report.apart and report.is_apart:
        yield f"{APART}: {report.apart.value:.2f} is above its target, {MOST_APART:g}"
    if report.settings.cache != OFF:
        yield f"skipped (cached): {report.skipped} of {report.storyboards * report.settings.steps} steps"


def _beside(report: QualityReport, name: str) -> tuple[str, ...]:
    if not report.baseline:
        return ()
    score: Score | None = report.baseline.get(name)
    ratio = report.ratios.get(name)
    return _percent(score.share) if score else NOTHING, _plain(ratio) if ratio else NOTHING


def _row(name: str, of: str, *cells: str) -> str:
    return f"{name:19} {of:>5}" + "".join(f"  {cell:>22}" for cell in cells)


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} % ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def _levels(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def _number(share: float) -> str:
    return f"{100 * share:.1f} %"


def _plain(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
