"""From a storyboard to a video.

    storyboard ─ resolve ─ prompts ─ text encoder ─ contexts ─┐
                              noise ──────────────────────── sampler ─ latents ─ VAE ─ frames ─ mp4

Everything that can be checked without weights is checked before the first is read. One network is in
memory at a time: the text encoder, an expert, the other expert, the VAE. A run is a generator of events;
closing it cancels the run and leaves nothing half-written.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from holo_lite.config import Attention
from holo_lite.errors import OutputError, PromptError, SettingsError
from holo_lite.events import Event, PhaseStarted, Resolved
from holo_lite.film.video import check_writable
from holo_lite.kernels.computing import ComputeOptions, ComputeSetup, choose_computing
from holo_lite.model.clip import Clip
from holo_lite.opening.adapters import Adapters, Loras, open_adapters
from holo_lite.opening.checks import check_parts, dtype_name, model_fingerprint, pick_dtype
from holo_lite.plan.choose import pick_profile
from holo_lite.plan.fit import Plan, make_plan, plan_record
from holo_lite.plan.machine import Machine
from holo_lite.plan.opened import folder_sizes
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.profile import Profile
from holo_lite.plan.rung_memory import RungMemory
from holo_lite.plan.sizes import ModelSizes
from holo_lite.render.decode_phase import Decoding
from holo_lite.render.denoise_phase import Denoiser
from holo_lite.render.device_memory import capped, naming_shortage, repeatable
from holo_lite.render.keeper import FolderKeeper, Keeper, NoKeeper, Save, refuse_another_model
from holo_lite.render.text_phase import Encoding
from holo_lite.runs.folder import RunFolder
from holo_lite.runs.record import Opening, Record, circumstances
from holo_lite.runs.state import State
from holo_lite.sampling.sampler import Guidance, initial_noise
from holo_lite.sampling.schedule import Schedule
from holo_lite.settings import BUILT_IN, NOTHING_SAID, Options, RunSettings, resolve
from holo_lite.story.storyboard import Storyboard
from holo_lite.system.cache_folder import cache_folder
from holo_lite.system.device import pick_device
from holo_lite.system.whole_files import sweep
from holo_lite.text.windows import Prompt, PromptTokenizer, read_prompt
from holo_lite.tiny.model import tiny_model
from holo_lite.version import __version__
from holo_lite.weights.audit import Audit, Stamp
from holo_lite.weights.folder import ModelFolder, open_folder

Events = Generator[Event, None, None]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A run that is decided and checked, and has not begun."""

    settings: RunSettings
    notes: tuple[str, ...]
    prompt: Prompt
    negative: Prompt
    plan: Plan
    remembered: RungMemory

    @property
    def prompts(self) -> list[Prompt]:
        """What the text encoder reads: the negative prompt only with guidance."""
        return [self.prompt, self.negative] if self.settings.cfg != 1 else [self.prompt]


@dataclass(frozen=True)
class Pipeline:
    """A model, and where and how precisely it computes."""

    folder: ModelFolder
    tokenizer: PromptTokenizer
    device: torch.device
    dtype: torch.dtype
    fingerprint: str
    sizes: ModelSizes
    profile: Profile
    machine: Machine
    why: str  # why this profile, on one line
    is_tiny: bool = False
    adapters: Adapters = field(default_factory=Adapters)
    opening: Opening = field(default_factory=Opening)
    computing: ComputeSetup = field(default_factory=ComputeSetup)
    said: ComputeOptions = field(default_factory=ComputeOptions)
    whole: set[Stamp] = field(default_factory=set, compare=False)  # files whose hash was found right

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        attention: Attention | None = None,
        profile: str = "auto",
        lora: Loras | None = None,
        kernel: str = "auto",
        compute: str = "auto",
        fuse: str = "auto",
    ) -> Pipeline:
        """Open a model folder and check every file in it by names and shapes; no weight is read yet.

        Without `model` the built-in holo-tiny is used. `device` is auto, cpu, cuda or cuda:N; `dtype` is auto
        (that of the files), bf16 or fp32; `attention` chooses sparse or full experts where the folder has both;
        `profile` is auto, the name of a shipped profile, or a TOML file; `lora` are adapters to add as the model
        runs, files and strengths by expert (``{"high_noise": [("fast.safetensors", 1.0)]}``), which are read once
        to check their numbers. `kernel` computes attention: auto or a name of `holo_lite.kernels.registry`;
        `compute` is auto, bf16, fp8 or int8, the numbers matrices are multiplied in; `fuse` is auto, on or off.
        Raises `CheckpointError`, `SettingsError`, or `RoomError` for a card that is too full to be asked or tried.
        """
        path = Path(model) if model is not None else tiny_model()
        folder = open_folder(path, attention)
        check_parts(folder)
        place = pick_device(device)
        number = pick_dtype(dtype, folder.high_noise)
        adapters = open_adapters(folder, lora or {})
        sizes = folder_sizes(folder, number.itemsize, adapters.by_expert)
        said = ComputeOptions(kernel, compute, fuse)
        computing = choose_computing(said, sizes.config, device=place, dtype=number, scheme=sizes.scheme)
        sizes = dataclasses.replace(sizes, linear=computing.compute.linear, workspace=computing.workspace)
        budget, machine, why = pick_profile(profile, place, sizes)
        opening = Opening.of(model, place, dtype_name(number), folder.attention, profile, lora or {})
        logger.info("%s: %s, %s attention, %s on %s", path, sizes.scheme, folder.attention, opening.dtype, place)
        return cls(
            folder=folder,
            tokenizer=PromptTokenizer(folder.tokenizer),
            device=place,
            dtype=number,
            fingerprint=(BUILT_IN if model is None else "") + model_fingerprint(folder),
            sizes=sizes,
            profile=budget,
            machine=machine,
            why=why,
            is_tiny=model is None,
            adapters=adapters,
            opening=dataclasses.replace(opening, **vars(computing.said)),
            computing=computing,
            said=said,
        )

    @classmethod
    def of_run(cls, run: str | Path, **otherwise: Any) -> Pipeline:
        """Open the model that a run was begun with. `otherwise` are arguments of `load` to replace.

        Raises `RunError` for a folder without a run, and what `load` raises.
        """
        opening = RunFolder.named(Path(run)).begun().opening
        return cls.load(**opening.arguments(otherwise))

    def prepare(self, storyboard: Storyboard, options: Options = NOTHING_SAID) -> Job:
        """Decide everything about a run and check it: timing, sizes, captions, tokens.

        Raises `StoryboardError`, `PromptError`, or `SettingsError`, also for a clip that cannot fit; reads no
        weight.
        """
        attention = self.folder.attention
        if options.attention not in {None, attention}:
            raise SettingsError(
                f"attention '{options.attention}': the experts loaded are for {attention}; "
                "give attention to Pipeline.load, which finds the others"
            )
        settings, notes = resolve(
            storyboard,
            options,
            self.folder.defaults,
            made_with=f"holo-lite {__version__}, torch {torch.__version__}",
            **self._traits,
        )
        return self._planned(settings, (*notes, *self.adapters.notes))

    @property
    def _traits(self) -> dict[str, Any]:
        """The settings that the opened model decides."""
        return {
            "attention": self.folder.attention,
            "dtype": dtype_name(self.dtype),
            "model": self.fingerprint,
            "lora": self.adapters.record,
            "device": self.device.type,
            "computing": self.computing.record,
        }

    def _planned(self, settings: RunSettings, notes: tuple[str, ...]) -> Job:
        prompt = read_prompt(settings.storyboard.prompt, self.tokenizer)
        assert prompt.shots == len(settings.shot_frames), "captions and shots were compared before"
        negative = _read_negative(settings.negative, self.tokenizer)
        request = ClipRequest.of(settings)
        remembered = RungMemory.of(cache_folder(), self.machine.name, self.sizes, request)
        plan = remembered.apply(make_plan(self.profile, self.sizes, request, self.machine))
        planned = dataclasses.replace(settings, plan=plan_record(plan))
        return Job(planned, notes, prompt, negative, plan, remembered)

    def generate(
        self,
        storyboard: Storyboard,
        out: str | Path,
        options: Options = NOTHING_SAID,
        *,
        run: str | Path | None = None,
        keep_run: bool = False,
    ) -> Events:
        """Prepare and run: yields what happens, and at the end `Finished`. Close it to cancel.

        In the folder `run` the state is saved after every step; given the same settings again, the run continues
        from there. The folder is removed when the video is there, unless `keep_run`. Raises what `prepare` and
        `run` raise, before the first event is asked for.
        """
        return self.run(self.prepare(storyboard, options), out, run, keep_run=keep_run)

    def resume(self, run: str | Path, out: str | Path | None = None, *, keep_run: bool = False) -> Events:
        """Resume the run in a folder, with its own settings and plan, into its own video or into `out`.

        Yields as `generate`. Raises `RunError` for a folder without a run, of another model, or damaged.
        """
        folder = RunFolder.named(Path(run))
        record = folder.begun()
        settings = dataclasses.replace(record.settings, **self._traits)
        refuse_another_model(folder, record.settings, settings)
        job = self._planned(settings, self.adapters.notes)
        return self.run(job, Path(out) if out else folder.video(record), folder.path, keep_run=keep_run)

    def run(self, job: Job, out: str | Path, run: str | Path | None = None, *, keep_run: bool = False) -> Events:
        """Run a prepared job into the mp4 `out`, and a contact sheet of the same name next to it.

        `run` and `keep_run` are as for `generate`. Raises `OutputError` at once, before any weight is read, if
        `out` cannot be written, and `RunError` if `run` holds another run or is damaged.
        """
        out = Path(out)
        check_writable(out)
        sheet = out.with_suffix(".png")
        if sheet.is_dir():
            raise OutputError(
                f"{sheet}: is a folder, but the contact sheet would be written there; choose another --out"
            )
        if run is None:
            return self._events(job, out, sheet, NoKeeper())
        folder = RunFolder(Path(run))
        return self._as_begun(folder)._kept(job, out, sheet, folder, keep_run=keep_run)

    def _kept(self, job: Job, out: Path, sheet: Path, folder: RunFolder, *, keep_run: bool) -> Events:
        """Run a job that is kept in a folder, from its saved state."""
        settings = dataclasses.replace(job.settings, computing=self.computing.record)
        here = circumstances(self.device, self.computing.record)
        record = Record(settings, job.plan, self.opening, folder.path_to(out), here)
        keeper = FolderKeeper.take_up(folder, record, keep=keep_run)
        job = dataclasses.replace(job, settings=keeper.record.settings, plan=keeper.record.plan)
        return self._events(job, out, sheet, keeper)

    def _as_begun(self, folder: RunFolder) -> Pipeline:
        """This pipeline, with the kernel and fusing of a folder's run, where `auto` chooses others today."""
        found = folder.record() if folder.has_state else None
        if found is None or found.opening.device != self.opening.device:
            return self
        begun = dataclasses.replace(self.computing.said, kernel=found.opening.kernel, fuse=found.opening.fuse)
        said = self.said.or_where_auto(begun)
        if said == self.computing.said:
            return self
        try:
            computing = choose_computing(
                said, self.sizes.config, device=self.device, dtype=self.dtype, scheme=self.sizes.scheme
            )
        except SettingsError:  # no longer possible; that it differs is reported
            return self
        opening = dataclasses.replace(self.opening, **vars(computing.said))
        return dataclasses.replace(self, computing=computing, opening=opening)

    def read_ahead(self, jobs: Sequence[Job]) -> Events:
        """Encode the prompts of several jobs with the text encoder opened once: their runs find them in the cache.

        Raises `RoomError` when the device has no memory left.
        """
        if len(jobs) > 1:
            plan = jobs[0].plan
            with capped(self.device, plan.budget), Audit(self.whole) as audit:
                prompts = [prompt for job in jobs for prompt in job.prompts]
                yield from self._encoding(jobs[0], audit).rows(list(dict.fromkeys(prompts)), plan)

    def _events(self, job: Job, out: Path, sheet: Path, keeper: Keeper) -> Events:
        logger.info("%s: %s; plan %s", out, self.why, dict(job.settings.plan))
        yield Resolved(job.settings, job.notes, job.plan, self.why, self.computing.lines)
        room = capped(self.device, job.plan.budget)
        with keeper, room, repeatable(), naming_shortage(), Audit(self.whole) as audit:
            yield from keeper.begin()
            for film in (out, sheet):
                sweep(film)  # nobody else makes them now
            latents, plan = yield from self._denoised(job, keeper, audit)
            yield PhaseStarted("decode", job.settings.frames)
            audit.settle(self.folder.vae)
            precision = self.dtype if self.device.type == "cuda" else torch.float32  # a CPU convolves fp32 faster
            decoding = Decoding(self.folder.vae, precision, self.device, job.remembered.keep, keeper.finish)
            yield from decoding.run(job.settings, latents, plan, out, sheet)

    def _denoised(self, job: Job, keeper: Keeper, audit: Audit) -> Generator[Event, None, tuple[Tensor, Plan]]:
        """Do the steps that are left, with a plan that gets smaller where memory runs out.

        A step is saved once the weights it was computed with are known to be whole.
        """
        before, steps = keeper.take(), job.settings.steps
        done = before.done if before else 0
        if before and done == steps:
            return before.latents.to(self.device), job.plan
        guidance, plan = yield from self._read(job, audit)
        experts = [self.folder.experts[step.expert] for step in Schedule.of(steps)]
        audit.begin(*dict.fromkeys(experts[done:]), self.folder.vae)
        yield PhaseStarted("denoise", steps, done)
        noise = before.latents if before else initial_noise(Clip(job.settings.layout), job.settings.seed)

        def save(state: State) -> Iterator[Event]:
            audit.settle(experts[state.done - 1])
            yield from keeper.save(state)

        cached = before.cache if before else {}
        run = self._denoiser(job, save).run(job.settings, guidance, noise.to(self.device), plan, done, cached)
        del before, cached  # a step cache is gigabytes, and lives on the device from here on
        return (yield from run)

    def _denoiser(self, job: Job, save: Save) -> Denoiser:
        return Denoiser(
            self.folder.experts,
            self.dtype,
            self.device,
            job.remembered.keep,
            self.adapters.by_expert,
            save,
            self.computing.compute,
        )

    def _read(self, job: Job, audit: Audit) -> Generator[Event, None, tuple[Guidance, Plan]]:
        contexts, plan = yield from self._encoding(job, audit).run(job.prompts, job.plan)
        return Guidance.of(contexts, job.settings.cfg, job.settings.cfg_until), plan

    def _encoding(self, job: Job, audit: Audit) -> Encoding:
        return Encoding(self.folder.text_encoder, self.dtype, self.device, job.remembered.keep, audit)


def _read_negative(text: str, tokenizer: PromptTokenizer) -> Prompt:
    """Read the negative prompt, which every shot sees whole. Raises `PromptError`."""
    try:
        prompt = read_prompt(text, tokenizer)
    except PromptError as error:
        raise PromptError(f"the negative prompt: {error}") from error
    if prompt.windows is not None:
        raise PromptError("the negative prompt: it has no shots of its own; remove the tags in brackets")
    return prompt
