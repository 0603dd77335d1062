"""The same storyboard on several cards, each planned as it would be alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from holo_lite.errors import FitError
from holo_lite.opening.options import AS_IT_COMES, ModelOptions
from holo_lite.plan.cards import find_card
from holo_lite.preflight.forecast import Forecast, forecast
from holo_lite.preflight.target import HERE, ForecastPlace
from holo_lite.settings import NOTHING_SAID, Options
from holo_lite.story.storyboard import Storyboard


@dataclass(frozen=True)
class Outlook:
    """What to expect of a card: a forecast, or why it cannot make the video. `gpu` None: this machine."""

    gpu: str | None
    found: Forecast | FitError

    @property
    def forecast(self) -> Forecast | None:
        """The forecast, if it fits."""
        return None if isinstance(self.found, FitError) else self.found


def compare(
    storyboard: Storyboard,
    options: Options = NOTHING_SAID,
    model: str | Path | None = None,
    how: ModelOptions = AS_IT_COMES,
    gpus: Sequence[str] = (),
    where: ForecastPlace = HERE,
) -> tuple[Outlook, ...]:
    """Plan a storyboard for each card by its name, or for this machine if there is none.

    Raises what `forecast` raises, except that a card on which it does not fit is an outlook like the others.
    """
    names = [find_card(gpu).name for gpu in gpus]
    places = [replace(where, gpu=name) for name in dict.fromkeys(names)] or [where]

    def outlook(place: ForecastPlace) -> Outlook:
        try:
            return Outlook(place.gpu, forecast(storyboard, options, model, how, place))
        except FitError as error:
            return Outlook(place.gpu, error)

    return tuple(outlook(place) for place in places)
