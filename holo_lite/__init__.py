"""holo-lite: HoloCine multi-shot video, shot by shot, on the card you have.

    from holo_lite import Options, Pipeline, finish

    pipeline = Pipeline.load("models/holocine-nf4")
    run = pipeline.generate("storyboard.toml", "video.mp4", Options(seed=7))
    print(finish(run).video)

Every public name is here, and docs/python.md explains all of them. Names are looked up when they are first used, so
importing the package costs nothing. Modules below may move from one version to the next; these names stay.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__ as __version__  # relative: ComfyUI loads this by its place

if TYPE_CHECKING:  # what type checkers read; _NAMES says the same to the interpreter
    from holo_lite.cancel import Cancel as Cancel, Cancelled as Cancelled
    from holo_lite.directing.extension import Extension as Extension
    from holo_lite.directing.retake import Retake as Retake
    from holo_lite.errors import (
        CheckpointError as CheckpointError,
        FarmError as FarmError,
        FetchError as FetchError,
        FitError as FitError,
        HoloError as HoloError,
        LaterRecordError as LaterRecordError,
        OutputError as OutputError,
        PromptError as PromptError,
        RanksError as RanksError,
        RecordError as RecordError,
        RoomError as RoomError,
        RunError as RunError,
        SettingsError as SettingsError,
        StoryboardError as StoryboardError,
        WritingError as WritingError,
    )
    from holo_lite.evaluation.outcome import (
        EvaluationStarted as EvaluationStarted,
        Outcome as Outcome,
        StoryboardJudged as StoryboardJudged,
    )
    from holo_lite.evaluation.report import ModelNames as ModelNames, QualityReport as QualityReport
    from holo_lite.evaluation.run import evaluate as evaluate
    from holo_lite.evaluation.studio import Studio as Studio
    from holo_lite.eventjson.event_json import event_json as event_json
    from holo_lite.events import (
        Event as Event,
        Finished as Finished,
        FrameDone as FrameDone,
        GoingOn as GoingOn,
        LatentsDone as LatentsDone,
        NoLatents as NoLatents,
        NoPreview as NoPreview,
        NotSaved as NotSaved,
        PreviewDone as PreviewDone,
        Resolved as Resolved,
        StepDone as StepDone,
        SteppedDown as SteppedDown,
        finish as finish,
        latents_of as latents_of,
    )
    from holo_lite.film.video import read_metadata as read_metadata
    from holo_lite.jobs.batch import find_items as find_items, render_batch as render_batch
    from holo_lite.jobs.drafts import draft_options as draft_options
    from holo_lite.jobs.items import BatchItem as BatchItem, ItemEnded as ItemEnded, ItemStarted as ItemStarted
    from holo_lite.jobs.preview import (
        colours_of as colours_of,
        preview_path as preview_path,
        previewed as previewed,
    )
    from holo_lite.opening.options import ModelOptions as ModelOptions
    from holo_lite.preflight.check import CheckReport as CheckReport, check_storyboard as check_storyboard
    from holo_lite.preflight.forecast import Forecast as Forecast, forecast as forecast
    from holo_lite.preflight.rules import CheckFinding as CheckFinding
    from holo_lite.preflight.target import ForecastPlace as ForecastPlace
    from holo_lite.progress import (
        Note as Note,
        PhaseAdvanced as PhaseAdvanced,
        PhaseStarted as PhaseStarted,
    )
    from holo_lite.render.job import Job as Job
    from holo_lite.render.pipeline import Pipeline as Pipeline
    from holo_lite.render.sinks import (
        FilmSink as FilmSink,
        FrameSink as FrameSink,
        MemorySink as MemorySink,
        RawSink as RawSink,
    )
    from holo_lite.settings import Options as Options, RunSettings as RunSettings
    from holo_lite.story.files import (
        dump_toml as dump_toml,
        load_storyboard as load_storyboard,
        parse_json as parse_json,
        parse_toml as parse_toml,
    )
    from holo_lite.story.storyboard import (
        Reference as Reference,
        Shot as Shot,
        Storyboard as Storyboard,
    )
    from holo_lite.views.forecast import forecast_lines as forecast_lines
    from holo_lite.writing.endpoint import Endpoint as Endpoint
    from holo_lite.writing.events import (
        AnswerGrew as AnswerGrew,
        Connecting as Connecting,
        StoryboardWritten as StoryboardWritten,
        TryJudged as TryJudged,
        TryStarted as TryStarted,
    )
    from holo_lite.writing.writing import write_storyboard as write_storyboard
    from quantize.convert import Conversion as Conversion, ConversionFinished as ConversionFinished
    from quantize.job import prepare_conversion as prepare_conversion, run_conversion as run_conversion

_NAMES = {
    "holo_lite.cancel": ("Cancel", "Cancelled"),
    "holo_lite.progress": ("Note", "PhaseAdvanced", "PhaseStarted"),
    "holo_lite.eventjson.event_json": ("event_json",),
    "holo_lite.errors": (
        "CheckpointError",
        "FarmError",
        "FetchError",
        "FitError",
        "HoloError",
        "LaterRecordError",
        "OutputError",
        "PromptError",
        "RanksError",
        "RecordError",
        "RoomError",
        "RunError",
        "SettingsError",
        "StoryboardError",
        "WritingError",
    ),
    "holo_lite.directing.extension": ("Extension",),
    "holo_lite.directing.retake": ("Retake",),
    "holo_lite.evaluation.report": ("ModelNames", "QualityReport"),
    "holo_lite.evaluation.outcome": ("EvaluationStarted", "Outcome", "StoryboardJudged"),
    "holo_lite.evaluation.run": ("evaluate",),
    "holo_lite.evaluation.studio": ("Studio",),
    "holo_lite.events": (
        "Event",
        "Finished",
        "FrameDone",
        "GoingOn",
        "LatentsDone",
        "NoLatents",
        "NoPreview",
        "NotSaved",
        "PreviewDone",
        "Resolved",
        "StepDone",
        "SteppedDown",
        "finish",
        "latents_of",
    ),
    "holo_lite.film.video": ("read_metadata",),
    "holo_lite.jobs.batch": ("find_items", "render_batch"),
    "holo_lite.jobs.items": ("BatchItem", "ItemEnded", "ItemStarted"),
    "holo_lite.jobs.drafts": ("draft_options",),
    "holo_lite.jobs.preview": ("colours_of", "preview_path", "previewed"),
    "holo_lite.opening.options": ("ModelOptions",),
    "holo_lite.preflight.check": ("CheckReport", "check_storyboard"),
    "holo_lite.preflight.forecast": ("Forecast", "forecast"),
    "holo_lite.preflight.rules": ("CheckFinding",),
    "holo_lite.preflight.target": ("ForecastPlace",),
    "holo_lite.render.job": ("Job",),
    "holo_lite.render.pipeline": ("Pipeline",),
    "holo_lite.render.sinks": ("FilmSink", "FrameSink", "MemorySink", "RawSink"),
    "holo_lite.settings": ("Options", "RunSettings"),
    "holo_lite.story.files": ("dump_toml", "load_storyboard", "parse_json", "parse_toml"),
    "holo_lite.story.storyboard": ("Reference", "Shot", "Storyboard"),
    "holo_lite.views.forecast": ("forecast_lines",),
    "holo_lite.writing.endpoint": ("Endpoint",),
    "holo_lite.writing.events": ("AnswerGrew", "Connecting", "StoryboardWritten", "TryJudged", "TryStarted"),
    "holo_lite.writing.writing": ("write_storyboard",),
    "quantize.convert": ("Conversion", "ConversionFinished"),
    "quantize.job": ("prepare_conversion", "run_conversion"),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'holo_lite' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
