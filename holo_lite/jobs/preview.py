"""Previews: a contact sheet of where a run is heading, drawn again every few steps.

Each step estimates the clip as if the flow continued straight. Framing and light can be seen in it long before
the last step. It is drawn by a colour map of the VAE, on the CPU: neither the card nor the plan has any part in it.
The pipeline does not know of previews; the caller passes a run's events through `with_previews`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from holo_lite.errors import CheckpointError, OutputError
from holo_lite.events import Event, Events, NoPreview, PreviewDone, Resolved, StepDone
from holo_lite.film.colour_fit import fit_colours
from holo_lite.film.colours import ColourMap
from holo_lite.film.contact_sheet import ContactSheet
from holo_lite.film.vae_files import check_vae, vae_file
from holo_lite.opening.model import OpenedModel
from holo_lite.runs.own import picture_at, refuse
from holo_lite.settings import RunSettings
from holo_lite.story.shots import latent_frame_of
from holo_lite.system.cache_folder import cache_folder
from holo_lite.system.caches import COLOURS
from holo_lite.system.json_table import keep, read
from holo_lite.system.whole_files import sweep
from holo_lite.weights.files import open_weights
from holo_lite.weights.folder import ModelFolder
from holo_lite.weights.manifest import FILE_NAME, PREVIEW, read_manifest


def preview_path(out: Path) -> Path:
    """Where the previews of a video are written: next to it."""
    return out.with_name(f"{out.stem}-preview.png")


def with_previews(
    events: Events, colours: Callable[[], ColourMap], path: Path, every: int, *, overwrite: bool = False
) -> Events:
    """Pass the events of a run on; after every `every` steps, and the last, write and report a preview.

    What is at `path` and is no preview of this run stays, unless `overwrite`.

    `colours` is called once, before any weight of the run is in memory. The first error with a preview is reported,
    and there are no more previews; the run continues. Closing this closes the run.
    """
    previews = _Previews(colours, path, every, overwrite)
    with closing(events):
        for event in events:
            yield event
            if told := previews.after(event):
                yield told


def previewed(
    events: Events, model: OpenedModel, out: str | Path, every: int = 5, *, overwrite: bool = False
) -> Events:
    """Pass the events of a run on, with previews in the colours of the run's model next to the video `out`."""
    path = preview_path(Path(out))
    return with_previews(events, lambda: colours_of(model.folder), path, every, overwrite=overwrite)


@dataclass
class _Previews:
    """The previews of one run. `draw` writes one, once the run is resolved and until something goes wrong."""

    colours: Callable[[], ColourMap]
    path: Path
    every: int
    overwrite: bool = False
    draw: Callable[[Tensor], None] | None = None

    def after(self, event: Event) -> PreviewDone | NoPreview | None:
        """The events to send after an event."""
        try:
            if isinstance(event, Resolved):
                if not self.overwrite:
                    refuse(self.path, picture_at(self.path, event.settings))
                self.draw = partial(_write, event.settings, self.colours(), self.path)
            elif isinstance(event, StepDone) and self.draw and self._is_due(event):
                self.draw(event.progress.clean)
                return PreviewDone(self.path, event.done)
        except (CheckpointError, OutputError, OSError) as error:
            self.draw = None
            return NoPreview(str(error))
        return None

    def _is_due(self, event: StepDone) -> bool:
        return event.done % self.every == 0 or event.done == event.steps


def _write(settings: RunSettings, colours: ColourMap, path: Path, clean: Tensor) -> None:
    """Draw clean latents (16, F, h, w), on any device, whole or not at all. Raises `OutputError`."""
    sweep(path)
    draw_sheet(settings, colours.pictures(clean)).save(path, settings.to_json())


def draw_sheet(settings: RunSettings, pictures: Tensor) -> ContactSheet:
    """A contact sheet of latent frames (F, h, w, 3) uint8: each frame of the video shows the one that holds it."""
    shown, hidden = settings.shown, settings.hidden_frames
    sheet = ContactSheet(shown.shot_frames, settings.shown_captions, fps=settings.fps)
    for frame in range(shown.num_frames):
        sheet.add(frame, pictures[latent_frame_of(hidden + frame)])
    return sheet


def colours_of(folder: ModelFolder) -> ColourMap:
    """The colour map of a model's VAE: from its manifest, else from the cache, else fitted now and kept there.

    Fitting takes seconds and is done once for a VAE. Raises `CheckpointError`.
    """
    return _stored(folder) or _fitted(folder.vae)


def _stored(folder: ModelFolder) -> ColourMap | None:
    if not (folder.path / FILE_NAME).is_file():
        return None
    return ColourMap.read(read_manifest(folder.path).sections.get(PREVIEW))


def _fitted(vae: Path) -> ColourMap:
    path = cache_folder() / COLOURS.folder / f"{_identity(vae)}.json"
    found: ColourMap | None = read(path, ColourMap, COLOURS.what)
    if found is None:
        found = fit_colours(vae)
        keep(path, found, COLOURS.what)
    return found


def _identity(vae: Path) -> str:
    """The same for the same weights and scale of latents, wherever they lie."""
    facts = [open_weights(vae_file(vae)).fingerprint, repr(check_vae(vae))]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
