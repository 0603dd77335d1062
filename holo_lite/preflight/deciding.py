"""What a forecast is made of, before there is a plan: the model, where it would run, and the clip."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from holo_lite.config import Attention, published
from holo_lite.errors import SettingsError
from holo_lite.opening.adapters import Adapters, open_adapters
from holo_lite.opening.checks import check_runnable, dtype_name, find_model, pick_dtype
from holo_lite.opening.given import Loras
from holo_lite.opening.options import ModelOptions, check_model_options
from holo_lite.plan.cost import Rate
from holo_lite.plan.opened import folder_sizes
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.released import released_sizes
from holo_lite.plan.search import Problem
from holo_lite.preflight.target import ForecastPlace, Target
from holo_lite.reading import values
from holo_lite.sampling.frozen_shots import as_named
from holo_lite.settings import Options, RunSettings, check_options, resolve
from holo_lite.story.files import AnyStoryboard, as_storyboard
from holo_lite.story.storyboard import Storyboard
from holo_lite.system.cache_folder import cache_folder
from holo_lite.weights.folder import ModelFolder

RELEASED = "HoloCine-14B"


@dataclass(frozen=True)
class Decided:
    """A clip and where it is to be made. problem: what a plan is searched for; the rest is as in a `Forecast`."""

    target: Target
    problem: Problem
    settings: RunSettings
    model: str
    why: str
    lines: tuple[str, ...]
    notes: tuple[str, ...]
    rate: Rate | None


def decide(
    storyboard: AnyStoryboard, options: Options, model: str | Path | None, how: ModelOptions, where: ForecastPlace
) -> Decided:
    """Decide all that a plan needs. Raises what `forecast` raises, but for a clip that does not fit."""
    check_options(options)
    check_model_options(how)
    model = values.path("model", model) if model is not None else None
    opened = find_model(model, options.attention or how.attention) if model is not None else None
    if opened is not None:
        check_runnable(opened)
    number = _number(opened, how.dtype)
    target = Target.of(where, how, number)
    adapters = _adapters(opened, how.lora)
    own = folder_sizes(opened, number.itemsize, adapters.by_expert) if opened is not None else None
    counted = target.counted(how.computing, own) if own is not None else None
    chosen, why = target.profile(how.profile, counted and counted[0])
    found, lines = counted or target.counted(how.computing, released_sizes(chosen.schemes[0]))
    settings, notes = _settings(as_storyboard(storyboard), options, opened, chosen.device)
    problem = Problem(chosen, found, ClipRequest.of(settings), target.room)
    return Decided(
        target,
        problem,
        settings,
        f"{model.name if model is not None else RELEASED} {settings.attention} in {found.scheme}",
        why,
        lines,
        (*notes, *adapters.notes),
        target.rate(how.computing, found, where.rates or cache_folder()),
    )


def _settings(
    storyboard: Storyboard, options: Options, opened: ModelFolder | None, device: str
) -> tuple[RunSettings, tuple[str, ...]]:
    """The run as it would be decided, with notes, for the opened folder or the released model."""
    attention: Attention = opened.attention if opened is not None else options.attention or "sparse"
    defaults = opened.defaults if opened is not None else published(attention)
    traits = {"attention": attention, "dtype": "", "device": device, "model": ""}
    return resolve(storyboard, options, defaults, frozen=as_named(storyboard), **traits)


def _number(folder: ModelFolder | None, dtype: str) -> torch.dtype:
    """What is computed in."""
    if folder is not None:
        return pick_dtype(dtype, folder.high_noise)
    if dtype not in {"auto", dtype_name(torch.bfloat16)}:
        raise SettingsError(f"--dtype {dtype}: needs a model; give its folder with --model")
    return torch.bfloat16


def _adapters(folder: ModelFolder | None, lora: Loras) -> Adapters:
    """The adapters of a model that is there."""
    if folder is None and lora:
        raise SettingsError("--lora: needs the model it is added to; give its folder with --model")
    return open_adapters(folder, lora) if folder is not None else Adapters()
