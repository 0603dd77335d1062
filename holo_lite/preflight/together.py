"""What several cards take to make one clip together: who computes what, how long, and what travels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from holo_lite.errors import FitError
from holo_lite.opening.company import named_devices
from holo_lite.opening.options import AS_IT_COMES, ModelOptions
from holo_lite.plan.machine import Machine
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.rank_plans import ALIKE, Spread, Station
from holo_lite.plan.sizes import ModelSizes
from holo_lite.plan.spread import choose_spread
from holo_lite.preflight.deciding import Decided, decide
from holo_lite.preflight.target import HERE, ForecastPlace
from holo_lite.settings import NOTHING_SAID, Options, RunSettings
from holo_lite.story.files import AnyStoryboard


@dataclass(frozen=True)
class TogetherForecast:
    """A clip laid over several cards. `known`: their rates are, so that seconds mean something."""

    stations: tuple[Station, ...]
    spread: Spread
    settings: RunSettings
    request: ClipRequest
    sizes: ModelSizes
    model: str
    known: bool

    @property
    def sent_a_step(self) -> int:
        """Bytes that a step sends, all cards together and each row counted once."""
        return self.spread.sent * self.spread.blocks


def forecast_together(
    storyboard: AnyStoryboard,
    options: Options = NOTHING_SAID,
    model: str | Path | None = None,
    how: ModelOptions = AS_IT_COMES,
    gpus: Sequence[str] = (),
    where: ForecastPlace = HERE,
    machines: Callable[[str], Machine | None] | None = None,
) -> TogetherForecast | FitError | None:
    """Plan a clip for the named cards together, or for this machine's `how.devices`; None where that is one.

    machines: what stands for this machine with one of its devices, where it is not to be asked here.
    A `FitError` is returned where no way fits. Raises what `forecast` raises otherwise.
    """
    devices = () if gpus else named_devices(how.devices)
    one = replace(how, devices=())
    seen = machines or (lambda _: where.machine)
    places = [(one, replace(where, gpu=gpu)) for gpu in gpus]
    places += [(replace(one, device=each), replace(where, machine=seen(each))) for each in devices]
    if len(places) < 2:
        return None
    try:
        found = [decide(storyboard, options, model, each, place) for each, place in places]
        return _laid_out(found, ranks=1 if gpus else len(found))
    except FitError as error:
        return error


def _laid_out(found: Sequence[Decided], ranks: int) -> TogetherForecast:
    """The clip over all of them, so many of which share a machine's main memory. Raises `FitError`."""
    known = all(each.rate is not None for each in found)
    stations = tuple(_station(each, ranks, known=known) for each in found)
    first = found[0]
    request, sizes = first.problem.request, first.problem.sizes
    spread = choose_spread(stations, sizes, request, throughout=first.settings.is_guided_throughout)
    return TogetherForecast(stations, spread, first.settings, request, sizes, first.model, known)


def _station(found: Decided, ranks: int, *, known: bool) -> Station:
    """A card as one of several, so many of which share this machine's main memory."""
    machine, target = found.problem.machine, found.target
    name = target.name or f"profile {found.problem.profile.name}"
    rate = found.rate if known and found.rate is not None else ALIKE
    return Station(name, found.problem.profile, machine.shared_by(ranks), rate)
