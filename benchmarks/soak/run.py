"""One generation of a soak, through everything that happens to it, and whether it came out as it must.

It must end with the very result of the undisturbed run, and no step that was told as done may be done again, but
where the run itself said that it could not be saved. Errors on the way are one line each, of holo-lite's own kind.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from benchmarks.soak.film import Film, Reference, files_of
from benchmarks.soak.killed import digest
from holo_lite.errors import HoloError
from holo_lite.events import Event, Events, Finished, FrameDone, GoingOn, NotSaved, Resolved, StepDone, SteppedDown
from holo_lite.film.tiling import Tile, stride_of
from holo_lite.film.vae import decode_frames, load_vae, to_uint8
from holo_lite.film.vae_tiles import decode_frames_tiled
from holo_lite.film.video import probe
from holo_lite.plan.plan import Plan
from holo_lite.render.decode_phase import HOST
from holo_lite.render.pipeline import Pipeline
from holo_lite.runs.folder import RunFolder
from holo_lite.system.cache_folder import CACHE_VARIABLE

TOLERANCE = 1e-5  # relative, of latents some steps of which were made in smaller pieces
CACHE = "cache"


class LostError(Exception):
    """A run is lost, and why."""


@dataclass
class Ledger:
    """Which steps a run has told as done, over all the times it was taken up."""

    standing: int = 0  # the last step that must not be done again
    resumed: int = 0
    _done: int = 0

    def take_up(self) -> None:
        """The run begins, or resumes."""
        self._done = 0

    def go_on(self, done: int) -> None:
        """It says after which step it goes on."""
        self._done, self.resumed = done, self.resumed + 1
        self._check()

    def step(self, done: int) -> None:
        """A step is done. Raises `LostError` if others were due before."""
        if done == 1:
            self._check()
        if done != self._done + 1:
            raise LostError(f"step {done} came behind step {self._done}")
        self._done = done

    def keep(self, done: int) -> None:
        """So much is saved."""
        self.standing = done

    def _check(self) -> None:
        if self._done < self.standing:
            raise LostError(f"it went on after step {self._done}, and {self.standing} were saved")


@dataclass
class Run:
    """A film being made in a folder of its own, in this process and others."""

    pipeline: Pipeline
    film: Film
    reference: Reference
    folder: Path
    known: Path  # a cache folder with all prompts in it
    rng: Random
    ledger: Ledger = field(default_factory=Ledger)
    told: list[str] = field(default_factory=list)  # errors
    unsaved: int = 0  # times it was told that a state cannot be saved
    ended_by_kill: bool = False  # whoever worked on it last could not clear away
    stepped_down: int = 0
    rungs: list[str] = field(default_factory=list)  # of the plan it ends with
    latents: Tensor | None = None  # of the last step that was made here
    last_step: tuple[int, str] = (0, "")  # that was told, in any process, and a hash of its latents
    tile: Tile | None = None
    pixels: dict[int, Tensor] = field(default_factory=dict)
    finished: Finished | None = None
    error: float = 0.0  # of the latents, relative, where memory ran out

    @property
    def out(self) -> Path:
        """The video."""
        return self.folder / "a.mp4"

    @property
    def state(self) -> RunFolder:
        """The run's folder."""
        return RunFolder.beside(self.out)

    # --- driving it ----------------------------------------------------------------------------

    def go(self, until: int | None = None, hear: Callable[[Event], None] = lambda _: None) -> None:
        """Begin it, or go on with it, to the end or to a step. Raises what the run raises, and `LostError`."""
        self.ledger.take_up()
        told_before = self.unsaved
        with cache_in(self.folder / CACHE), closing(self._events()) as events:
            for event in events:
                hear(event)
                self._note(event, told_before)
                if isinstance(event, StepDone) and event.done == until:
                    return

    def attempt(self, hear: Callable[[Event], None] = lambda _: None) -> HoloError | None:
        """As `go` to the end; an error of holo-lite's is noted and given."""
        try:
            self.go(hear=hear)
        except HoloError as error:
            self.told.append(str(error))
            if "\n" in str(error):
                raise LostError(f"an error of several lines: {error}") from error
            return error
        return None

    def refused(self, kind: type[HoloError], path: Path) -> None:
        """Find it refused with an error of a kind that begins with a path. Raises `LostError` otherwise."""
        error = self.attempt()
        if error is None:
            raise LostError(f"nobody noticed that {path} was harmed")
        if not isinstance(error, kind) or not str(error).startswith(str(path)):
            raise LostError(f"{path} was harmed, and it said: {type(error).__name__}: {error}")

    def _events(self) -> Events:
        if self.state.is_begun and self.rng.random() < 0.5:
            return self.pipeline.resume(self.state.path)
        return self.pipeline.generate(self.film.board, self.out, self.film.options, run=self.state.path)

    def _note(self, event: Event, told_before: int) -> None:
        match event:
            case GoingOn(_, done):
                self.ledger.go_on(done)
            case NotSaved():
                self.unsaved += 1
            case StepDone():
                self.latents = event.progress.latents
                self.last_step = event.done, digest(self.latents)
                self.ledger.step(event.done)
                self.ledger.keep(event.done if self.unsaved == told_before else self._saved())
            case Resolved():
                self._note_plan(event.plan)
            case SteppedDown(plan, _):
                self.stepped_down += 1
                self._note_plan(plan)
            case FrameDone(index, pixels):
                self.pixels[index] = pixels
            case Finished():
                self.finished = event

    def _note_plan(self, plan: Plan) -> None:
        self.rungs, self.tile = [rung.change for rung in plan.rungs], plan.tile

    def _saved(self) -> int:
        found = self.state.state() if self.state.is_begun else None
        return found[0].done if found else 0

    # --- judging it ----------------------------------------------------------------------------

    def judge(self) -> None:
        """Compare what came out with the undisturbed run. Raises `LostError`."""
        if self.stepped_down:
            self._judge_smaller()
        elif not self.is_complete:
            raise LostError("the video or its sheet is another one")
        elif self.last_step == (self.film.steps, digest(self.reference.latents)):
            return
        elif self.last_step[0] == self.film.steps:
            raise LostError("the latents are others")

    @property
    def is_complete(self) -> bool:
        """Whether video and sheet are there, and those of the undisturbed run, byte for byte."""
        there = self.out.is_file() and self.out.with_suffix(".png").is_file()
        return there and files_of(self.out) == (self.reference.video, self.reference.sheet)

    @property
    def litter(self) -> list[str]:
        """What lies in the run's folder and should not."""
        return sorted(
            {path.name for path in self.folder.iterdir()} - {"a.mp4", "a.png", "a.latents.safetensors", CACHE}
        )

    def _judge_smaller(self) -> None:
        """After a smaller plan latents are those of other pieces, and pixels those that they decode to."""
        assert self.latents is not None, "memory ran out in the run that made them, or behind it"
        assert self.finished is not None, "it ran to its end"
        expected = self.reference.latents
        self.error = float((self.latents - expected).norm() / expected.norm())
        if not self.error < TOLERANCE:
            raise LostError(f"with {', '.join(self.rungs)} the latents differ by {self.error:.1e}")
        if not same_pixels(self.pixels, self._decoded()):
            raise LostError(f"with {', '.join(self.rungs)} the frames are others")
        settled = [rung["change"] for rung in self.finished.settings.plan["rungs"]]
        if settled != self.rungs or probe(self.out).frames != len(self.pixels):
            raise LostError(f"the video says {settled}, the run said {self.rungs}")

    def _decoded(self) -> Iterator[Tensor]:
        """The frames of the run's latents, in the tiles it came to, decoded in one go."""
        device = self.pipeline.model.device
        vae = load_vae(self.pipeline.model.folder.vae, dtype=torch.float32, device=device)
        if self.tile is None:
            return map(to_uint8, decode_frames(vae, self.latents))
        tile, stride = self.tile, stride_of(self.tile)
        return map(to_uint8, decode_frames_tiled(vae, self.latents, tile=tile, stride=stride, cache_device=HOST))


def same_pixels(found: Mapping[int, Tensor], expected: Iterator[Tensor]) -> bool:
    """Whether frames are these, to the last pixel."""
    frames = dict(enumerate(expected))
    return found.keys() == frames.keys() and all(torch.equal(found[index], frames[index]) for index in frames)


@contextmanager
def cache_in(folder: Path) -> Iterator[None]:
    """Keep holo-lite's caches in a folder."""
    before = os.environ.get(CACHE_VARIABLE)
    os.environ[CACHE_VARIABLE] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[CACHE_VARIABLE]
        else:
            os.environ[CACHE_VARIABLE] = before
