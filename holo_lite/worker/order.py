"""An order: one video to make, as another process asks for it. docs/worker.md names every field.

It says what `generate`, `retake` and `extend` are told on the command line. It is read strictly, and no weight and
no video is opened for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from holo_lite.config import Attention
from holo_lite.errors import SettingsError
from holo_lite.opening.given import Loras
from holo_lite.opening.options import ModelOptions
from holo_lite.settings import NOTHING_SAID, Options
from holo_lite.system.record_fields import FileName, Natural
from holo_lite.system.records import Codec, Origin

Frames = Literal["film", "raw"]  # an mp4 with its sheet, or bare pixels
# Version 3 has `devices`. A reader that does not know `raw`, of version 2, would leave the pixels out.
WITH_DEVICES = Origin(version=3, runs_from=2)


@dataclass(frozen=True)
class Opening:
    """How the model is opened, as `ModelOptions` has it."""

    device: str = "auto"
    dtype: str = "auto"
    attention: Attention | None = None
    profile: str = "auto"
    lora: Loras = field(default_factory=dict)
    kernel: str = "auto"
    compute: str = "auto"
    fuse: str = "auto"
    devices: tuple[str, ...] = ()

    @property
    def options(self) -> ModelOptions:
        """For `Pipeline.load`. Raises `SettingsError`."""
        return ModelOptions(**{**vars(self), "lora": {name: list(each) for name, each in self.lora.items()}})


@dataclass(frozen=True)
class Order:
    """One video to make. Paths are absolute; a path that is None is not given.

    out: the mp4, or with `frames` "raw" the file of pixels. storyboard: a file. video: the finished video of which
    the shots `again` (new captions by their numbers; None: the old one) are made again, or which the storyboard
    continues, remembering the shots `remember`. model: a folder; None: the built-in one. draft: fewer steps at half
    the size. seeds: drafts of these at full size, with a sheet of them all at `out`, a PNG then. preview: steps
    between previews, which are written to `preview_at`; 0: none. raw: the bare pixels of the film, too.
    """

    out: FileName
    storyboard: FileName | None = None
    video: FileName | None = None
    again: Mapping[str, str | None] = field(default_factory=dict)
    remember: tuple[int, ...] | None = None
    model: FileName | None = None
    opening: Opening = Opening()
    options: Options = NOTHING_SAID
    draft: bool = False
    seeds: tuple[Natural, ...] = ()
    frames: Frames = "film"
    raw: FileName | None = None
    preview: Natural = 0
    preview_at: FileName | None = None
    overwrite: bool = False
    latents: bool = True
    keep_run: bool = False
    origin: Origin = WITH_DEVICES  # a change of any field is a new version

    @property
    def shots_again(self) -> dict[int, str | None]:
        """The shots to make again, by their numbers, with their new captions. Raises `SettingsError`."""
        for number in self.again:
            if not (number.isascii() and number.isdigit()):
                raise SettingsError(f'again: {number!a:.20} is no number of a shot; give one such as "3"')
        return {int(number): caption for number, caption in self.again.items()}

    def table(self) -> dict[str, Any]:
        """It as JSON has it."""
        return ORDER.table(self)


def check_order(order: Order) -> None:
    """Raise `SettingsError` for parts that do not go together."""
    if order.video is None and order.storyboard is None:
        raise SettingsError("neither a storyboard nor a video is given; give one of them")
    if order.again and (order.video is None or order.storyboard is not None):
        raise SettingsError("again: is for a video without a storyboard")
    if order.video is not None and order.storyboard is None and not order.again:
        raise SettingsError("a video is given, but neither shots to make again nor a storyboard that continues it")
    if order.remember is not None and (order.video is None or order.storyboard is None):
        raise SettingsError("remember: is for a video and the storyboard that continues it")
    if order.preview and order.preview_at is None:
        raise SettingsError("preview: give preview_at, the picture that is to be written")
    if order.raw is not None and (order.frames == "raw" or order.seeds):
        raise SettingsError("raw: is for one film; leave it out, or leave out frames and seeds")
    if order.seeds and (order.draft or order.frames == "raw"):
        raise SettingsError("seeds: are drafts of full size that are written as films; leave out draft and frames")


ORDER = Codec(Order, upgrades={1: dict, 2: dict}, sound=check_order, surrogates=True)
