"""What a finished training is worth: its scores in the gate, printed and saved with the model."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from holo_lite.evaluation.outcome import StoryboardJudged
from holo_lite.evaluation.report import ModelNames, QualityReport, save
from holo_lite.evaluation.run import evaluate
from holo_lite.evaluation.studio import Studio
from holo_lite.opening.options import ModelOptions
from holo_lite.render.pipeline import Pipeline
from holo_lite.settings import Options
from holo_lite.views.evaluation import report_lines

LOG = logging.getLogger(__name__)


def measure(model: Path, storyboards: int, place: Path) -> None:
    """Make and read held-out storyboards with the model in folder `model`; write what was found to `place`."""
    started = time.monotonic()
    studio = Studio(Pipeline.load(model, ModelOptions(device="cpu", dtype="fp32")))
    events = evaluate(studio, None, storyboards, Options(seed=0))
    outcomes = [event.outcome for event in events if isinstance(event, StoryboardJudged)]
    report = QualityReport.of(ModelNames(str(model)), outcomes)
    save(place, report, outcomes)
    for line in report_lines(report):
        LOG.info("%s", line)
    LOG.info("%d storyboards in %.0f s", storyboards, time.monotonic() - started)
