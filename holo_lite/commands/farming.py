"""`holo-lite batch --ray`: the same over the cards of many machines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from holo_lite.commands.shared import OPENING, PREVIEW_EVERY, TINY_NOTICE
from holo_lite.commands.talking import messages
from holo_lite.errors import FarmError, SettingsError
from holo_lite.system.units import duration_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from holo_lite.farm.cluster import Cluster
    from holo_lite.farm.orders import Wanted
    from holo_lite.jobs.items import BatchItem, ItemEnded

    Connected = Callable[..., AbstractContextManager[Cluster]]

GIVEN_OUT = ("auto", "cpu", "cuda")  # what may be said of the device: which card it is, Ray decides


@dataclass(frozen=True)
class Farming:
    """A batch over a cluster. address: of the cluster; out: the folder that all machines see."""

    connected: Connected
    address: str
    out: Path
    wanted: Wanted

    def make(self, items: Sequence[BatchItem], ended: list[ItemEnded]) -> None:
        """Make the videos, show the progress, and collect the result of each. Raises `FarmError`."""
        from holo_lite.farm.driver import Farm
        from holo_lite.farm.orders import clips_of, opening_request
        from holo_lite.farm.shared import note_in

        clips, start = clips_of(items, self.wanted), time.monotonic()
        on_processors = self.wanted.opening.device == "cpu"
        with (
            note_in(self.out.absolute()) as note,
            self.connected(self.address, on_processors=on_processors) as cluster,
        ):
            self._watch(Farm(cluster, clips, opening_request(clips, note)), ended, start)

    def _watch(self, farm: Any, ended: list[ItemEnded], start: float) -> None:
        from holo_lite.jobs.items import ItemEnded
        from holo_lite.tiny.model import is_name
        from holo_lite.views.farm import farm_view

        with closing(farm.run()) as events, farm_view(messages()) as view:
            if self.wanted.model is None or is_name(self.wanted.model):
                view.say(TINY_NOTICE)
            for event in events:
                if isinstance(event, ItemEnded):
                    ended.append(event)
                view.show(event)
            view.say(f"all took       {duration_text(time.monotonic() - start)}")


def wanted(model: Path | None, *, loras: Any, attention: str | None, preview: int | None, **said: Any) -> Wanted:
    """What the options of `batch` say about every clip. Raises `SettingsError`."""
    from holo_lite.farm.orders import Wanted
    from holo_lite.opening.options import ModelOptions
    from holo_lite.settings import Options, check_attention
    from holo_lite.worker.order import Opening

    variant = check_attention(attention) if attention is not None else None
    opening = {name: said.pop(name) for name in OPENING}
    if opening["device"] not in GIVEN_OUT:
        raise SettingsError(f"--device {opening['device']}: Ray gives out the cards; leave it out, or say cpu")
    if opening.pop("devices"):
        raise SettingsError("--devices: with --ray each card makes clips of its own; leave it out")
    overwrite, latents = said.pop("overwrite"), said.pop("latents")
    options = dict(vars(ModelOptions(attention=variant, lora=loras, **opening)))
    del options["devices"]
    every = preview if preview is not None else PREVIEW_EVERY if Console(stderr=True).is_terminal else 0
    return Wanted(model, Opening(**options), Options(**said, attention=variant), overwrite, latents, every)


def connecting() -> Connected:
    """What connects to a cluster. Raises `FarmError` without Ray."""
    try:
        from holo_lite.farm.ray_cluster import connected
    except ImportError:
        raise FarmError(
            '--ray needs the package ray (holo-lite[ray]); type: python -m pip install "ray>=2.60"'
        ) from None
    return connected
