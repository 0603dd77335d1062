"""From a storyboard to a video.

    storyboard ─ resolve ─ prompts ─ text encoder ─ contexts ─┐
                              noise ──────────────────────── sampler ─ latents ─ VAE ─ frames ─ sink

Everything that can be checked without weights is checked before the first is read. One network is in memory at a
time: the text encoder, an expert, the other expert, the VAE. A run is a generator of events; closing it cancels the
run and leaves nothing half-written.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, Unpack

from holo_lite.cancel import Cancel, FramesLeftBehind
from holo_lite.directing.direction import AnyFilm
from holo_lite.directing.extension import Extension
from holo_lite.directing.given import NOTHING_GIVEN, Given
from holo_lite.directing.retake import Again, Retake
from holo_lite.errors import SettingsError
from holo_lite.events import Events, LatentsDone, Resolved
from holo_lite.opening.company import Company, company_of, placed
from holo_lite.opening.given import GivenLoras, adapters_by_expert
from holo_lite.opening.model import OpenedModel, open_model
from holo_lite.opening.options import AS_IT_COMES, ModelOptions, check_model_options
from holo_lite.plan.choose import ProfileChoice, pick_profile
from holo_lite.plan.cost import run_work
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.plan import Plan
from holo_lite.progress import Phase
from holo_lite.reading import values
from holo_lite.render.device_memory import capped, few_threads, naming_shortage, repeatable
from holo_lite.render.job import Job
from holo_lite.render.keeper import RANKS, FolderKeeper, Keeper, NoKeeper, refuse_another_model
from holo_lite.render.preparing import Preparer
from holo_lite.render.run_phases import RunPhases
from holo_lite.render.sinks import FilmSink, FrameSink, sink_of
from holo_lite.runs.folder import RunFolder
from holo_lite.runs.record import Record, circumstances
from holo_lite.settings import NOTHING_SAID, Options
from holo_lite.story.files import AnyStoryboard
from holo_lite.text.windows import PromptTokenizer
from holo_lite.tiny.model import is_name, tiny_model
from holo_lite.weights.audit import Audit
from holo_lite.weights.stamps import Stamp

logger = logging.getLogger(__name__)


class How(TypedDict, total=False):
    """How a run is kept and cancelled, as `Pipeline.generate` takes it."""

    run: str | Path | None
    keep_run: bool
    cancel: Cancel | None


@dataclass(frozen=True, repr=False)
class Pipeline:
    """An opened model, the profile its runs are planned for, and whoever computes with this process, if anybody."""

    model: OpenedModel
    tokenizer: PromptTokenizer
    choice: ProfileChoice
    whole: set[Stamp] = field(default_factory=set, compare=False)  # files whose hash was found right
    company: Company | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model.summary}, profile {self.choice.profile.name})"

    @classmethod
    def load(cls, model: str | Path | None = None, options: ModelOptions = AS_IT_COMES) -> Pipeline:
        """Open a model folder and check every file in it by names and shapes; no weight is read yet.

        Without `model`, or by its name, the built-in holo-tiny is used. Raises `CheckpointError`, `SettingsError`,
        or `RoomError` for a card that is too full to be asked or tried.
        """
        check_model_options(options)
        built_in = model is None or (isinstance(model, str | Path) and is_name(model))
        path = tiny_model() if model is None or built_in else values.path("model", model)
        devices, first = placed(options)
        opened = open_model(path, first, built_in=built_in)
        company = company_of(devices, first.device)
        return cls(opened, PromptTokenizer(opened.folder.tokenizer), _choice(opened, company), company=company)

    def close(self) -> None:
        """Let the ranks end that compute with this process. They also end with it."""
        if self.company is not None:
            self.company.close()

    @classmethod
    def of_run(cls, run: str | Path, **otherwise: Any) -> Pipeline:
        """Open the model that a run was begun with. `otherwise` are `model` and fields of `ModelOptions` to change.

        Raises `RunError` for a folder without a run, and what `load` raises.
        """
        return cls.load(*RunFolder.named(Path(run)).begun().opening.to_load(otherwise))

    def with_lora(self, lora: GivenLoras | None) -> Pipeline:
        """The same opened model with these adapters in place of those it has; None: without any.

        `lora` is as for `ModelOptions`. No expert is opened, read or hashed again: a run makes what it would make
        with a model that was opened so. Raises `SettingsError`, and `CheckpointError` for a file that is not a
        LoRA of this model.
        """
        model = self.model.adapted(adapters_by_expert(lora))
        return dataclasses.replace(self, model=model, choice=_choice(model, self.company))

    def prepare(self, film: AnyFilm, options: Options = NOTHING_SAID, given: Given | None = None) -> Job:
        """Decide everything about a run and check it: timing, sizes, captions, tokens.

        `film` is a storyboard, a prompt or the path of a file; or shots of a video that are made again. `given` is
        what is given of its clip, in place of what it says itself. Raises `StoryboardError`, `PromptError`, or
        `SettingsError`, also for a clip that cannot fit, and `OutputError` for a video that cannot be used; reads
        no weight.
        """
        return self._preparer.job(film, options, given)

    def generate(
        self,
        storyboard: AnyFilm,
        out: str | Path | FrameSink,
        options: Options = NOTHING_SAID,
        *,
        run: str | Path | None = None,
        keep_run: bool = False,
        cancel: Cancel | None = None,
    ) -> Events:
        """Prepare and run: yields what happens, and at the end `Finished`.

        Close it to cancel between events; or give a token `cancel`, by which any thread cancels within a block, and
        asking for the next event raises `Cancelled`.
        `out` is the mp4 to write, or whatever else takes frames. In the folder `run` the state is saved after every
        step; given the same settings again, the run continues from there. The folder is removed when the video is
        there, unless `keep_run`. Raises what `prepare` and `run` raise, before the first event is asked for.
        """
        return self.run(self.prepare(storyboard, options), out, run, keep_run=keep_run, cancel=cancel)

    def retake(
        self,
        video: str | Path,
        shots: Again,
        out: str | Path | FrameSink,
        options: Options = NOTHING_SAID,
        **how: Unpack[How],
    ) -> Events:
        """Make shots of a finished video again, by their numbers from 1; all others stay.

        Each has a new caption, or None for the old one. The video's own options hold where `options` says nothing;
        the rest is as for `generate`.
        """
        return self.generate(Retake(video, shots), out, options, **how)

    def extend(
        self,
        video: str | Path,
        storyboard: AnyStoryboard,
        out: str | Path | FrameSink,
        options: Options = NOTHING_SAID,
        *,
        remember: Sequence[int] | None = None,
        **how: Unpack[How],
    ) -> Events:
        """Continue a finished video: new shots that remember its own, which are not shown again.

        `remember` chooses shots by their numbers, from 1; without it, all are remembered that fit. The video's
        options hold where neither `options` nor the storyboard says anything; the rest is as for `generate`.
        """
        film = Extension(video, storyboard, None if remember is None else tuple(remember))
        return self.generate(film, out, options, **how)

    def resume(
        self,
        run: str | Path,
        out: str | Path | FrameSink | None = None,
        *,
        keep_run: bool = False,
        cancel: Cancel | None = None,
    ) -> Events:
        """Resume the run in a folder, with its own settings and plan, into its own video or into `out`.

        Yields as `generate`. Raises `RunError` for a folder without a run, of another model, or damaged.
        """
        folder = RunFolder.named(Path(run))
        record = folder.begun()
        settings = dataclasses.replace(record.settings, **self.model.traits)
        refuse_another_model(folder, record.settings, settings)
        given = None if settings.frozen.shots else NOTHING_GIVEN
        job = self._preparer.planned(settings, given)
        video = out or folder.video(record)
        return self.run(job, video, folder.path, keep_run=keep_run, cancel=cancel)

    def run(
        self,
        job: Job,
        out: str | Path | FrameSink,
        run: str | Path | None = None,
        *,
        keep_run: bool = False,
        cancel: Cancel | None = None,
    ) -> Events:
        """Run a prepared job into the mp4 `out`, and a contact sheet of the same name, or into another sink.

        `run`, `keep_run` and `cancel` are as for `generate`; without `cancel`, the job's own token cancels. Raises
        `OutputError` at once, before any weight is read, if `out` cannot be written, and `RunError` if `run` holds
        another run or is damaged.
        """
        sink, job = sink_of(out), dataclasses.replace(job, cancel=cancel or job.cancel)
        sink.check()
        if run is None:
            return self._events(job, sink, NoKeeper())
        folder = RunFolder(Path(run))
        return self._as_begun(folder)._kept(job, sink, folder, keep_run=keep_run)

    def denoise(self, job: Job) -> Events:
        """Make a prepared job's latents: yields events as they happen, and at the end `LatentsDone`."""
        with FramesLeftBehind(), self.session(job.plan) as audit:
            latents, plan = yield from self._phases.denoise(job, NoKeeper(), audit)
        yield LatentsDone(latents, job.settings, plan)

    def decode(self, latents: LatentsDone, sink: FrameSink, cancel: Cancel | None = None) -> Events:
        """Decode latents into a sink: yields each frame, and at the end `Finished`. Raises what the sink raises."""
        sink.check()
        start = time.monotonic()
        with FramesLeftBehind(), self.session(latents.plan) as audit:
            decoder = self._phases.decoder(cancel=cancel)
            finished = yield from self._phases.decode(latents, sink, audit, NoKeeper(), decoder)
        yield dataclasses.replace(finished, seconds=time.monotonic() - start)

    def work(self, job: Job) -> dict[Phase, float]:
        """How many operations each phase of a prepared job has, by its plan."""
        settings = job.settings
        request = ClipRequest.of(settings)
        return run_work(self.model.sizes, request, job.plan, settings.schedule, settings.cfg_until)

    def read_ahead(self, jobs: Sequence[Job]) -> Events:
        """Encode the prompts of several jobs with the text encoder opened once: their runs find them in the cache.

        Raises `RoomError` when the device has no memory left.
        """
        if len(jobs) > 1:
            plan = jobs[0].plan
            with FramesLeftBehind(), capped(self.model.device, plan.budget), Audit(self.whole) as audit:
                prompts = [prompt for job in jobs for prompt in job.prompts]
                yield from self._phases.reader(jobs[0], audit).rows(list(dict.fromkeys(prompts)), plan)

    def has_read(self, job: Job) -> bool:
        """Whether a job's prompts are in the cache, so that its run does not open the text encoder."""
        with Audit(self.whole) as audit:
            return self._phases.reader(job, audit).knows(job.prompts)

    def _kept(self, job: Job, sink: FrameSink, folder: RunFolder, *, keep_run: bool) -> Events:
        """Run a job that is kept in a folder, from where it is there."""
        computing = self.model.setup.record
        settings = dataclasses.replace(job.settings, computing=computing)
        here = circumstances(self.model.device, computing, threads=self._threads)
        here |= {} if self.company is None else {RANKS: self.company.told}
        opening = self.model.recorded
        out = folder.path_to(sink.video) if isinstance(sink, FilmSink) else ""
        keeper = FolderKeeper.take_up(folder, Record(settings, job.plan, opening, out, here), keep=keep_run)
        job = dataclasses.replace(job, settings=keeper.record.settings, plan=keeper.record.plan)
        return self._events(job, sink, keeper)

    def _as_begun(self, folder: RunFolder) -> Pipeline:
        """This, with the kernel and fusing of a run in a folder, where `auto` came to others today."""
        found = folder.record() if folder.has_state else None
        if found is None or found.opening.device != str(self.model.device):
            return self
        setup = self.model.setup.choice
        begun = dataclasses.replace(setup, kernel=found.opening.kernel, fuse=found.opening.fuse)
        wanted = self.model.options.computing.or_where_auto(begun)
        if wanted == setup:
            return self
        try:
            return dataclasses.replace(self, model=self.model.computed_as(wanted))
        except SettingsError:  # it cannot be had any more, and that it is another is reported
            return self

    @property
    def _preparer(self) -> Preparer:
        return Preparer(self.model, self.tokenizer, self.choice)

    @property
    def _phases(self) -> RunPhases:
        return RunPhases(self.model, self.company.team if self.company is not None else None)

    @property
    def _threads(self) -> int:
        """Threads of a CPU, which ranks on one machine share."""
        shared = self.company.here if self.company is not None and self.model.device.type == "cpu" else 1
        return max(1, self.model.threads // shared)

    def _told(self, job: Job) -> Iterator[str]:
        """Who computes what, for a person."""
        if self.company is not None and job.spread is not None:
            gain = f"about {job.spread.gain:.1f} times as fast as one by arithmetic"
            yield f"devices: {self.company.told}; {job.spread.way}, {gain}; {self.company.formed.why}"

    @contextmanager
    def session(self, plan: Plan) -> Iterator[Audit]:
        """What holds while a run computes: its share of the card, repeatable choices, checked weights."""
        threads = few_threads(self._threads)
        room = capped(self.model.device, plan.budget)
        with room, repeatable(), threads, naming_shortage(), Audit(self.whole) as audit:
            yield audit

    def _events(self, job: Job, sink: FrameSink, keeper: Keeper) -> Events:
        job.cancel.check()
        logger.info("%s: %s; plan %s", sink, self.choice.why, dict(job.settings.plan))
        start, lines = time.monotonic(), (*self.model.setup.lines, *self._told(job))
        yield Resolved(job.settings, job.notes, job.plan, self.choice.why, lines, self.work(job))
        with FramesLeftBehind(), keeper, self.session(job.plan) as audit:
            yield from keeper.begin()
            latents, plan = yield from self._phases.denoise(job, keeper, audit)
            done = LatentsDone(latents, job.settings, plan)
            decoder = self._phases.decoder(job.remembered.keep, job.cancel)
            finished = yield from self._phases.decode(done, sink, audit, keeper, decoder)
        yield dataclasses.replace(finished, seconds=time.monotonic() - start)


def _choice(model: OpenedModel, company: Company | None) -> ProfileChoice:
    """The profile that runs are planned for, or one for each of several ranks."""
    profile = model.options.profile
    if company is None:
        return pick_profile(profile, model.device, model.sizes)
    return company.choice(profile, model.device, model.sizes)
