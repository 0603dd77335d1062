"""The way of a storyboard to a video.

    storyboard ─ resolve ─ prompts ─ text encoder ─ contexts ─┐
                              noise ──────────────────────── sampler ─ latents ─ VAE ─ frames ─ mp4

Everything that can be checked without weights is checked before the first is read. One network stands in
memory at a time: the text encoder, an expert, the other expert, the VAE. A run is a generator of events;
closing it cancels the run and leaves nothing half-written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from holo_lite import __version__
from holo_lite.config import Attention
from holo_lite.decode import Decoding
from holo_lite.denoise import Denoiser
from holo_lite.device import pick_device
from holo_lite.errors import OutputError, PromptError, RoomError, SettingsError
from holo_lite.events import Event, PhaseStarted, Resolved
from holo_lite.film.video import check_writable
from holo_lite.model.clip import Clip
from holo_lite.parts import DTYPES, check_parts, model_fingerprint, pick_dtype
from holo_lite.places import cache_folder
from holo_lite.plan.fit import Plan, make_plan
from holo_lite.plan.ladder import Shortage, unpinned
from holo_lite.plan.machine import Machine
from holo_lite.plan.opened import folder_sizes
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.profile import Profile
from holo_lite.plan.remembered import Remembered
from holo_lite.plan.sizes import ModelSizes
from holo_lite.room import capped, pick_profile, plan_record
from holo_lite.sampler import Context, Guidance, initial_noise
from holo_lite.settings import BUILT_IN, Options, RunSettings, resolve
from holo_lite.stepping import Stairs
from holo_lite.story.storyboard import Storyboard
from holo_lite.text.cache import PromptCache, encode_prompts, encoder_identity
from holo_lite.text.encoder import TextEncoder, pad_rows
from holo_lite.text.windows import Prompt, PromptTokenizer, read_prompt
from holo_lite.tiny.model import tiny_model
from holo_lite.weights.folder import ModelFolder, open_folder

NOTHING_SAID = Options()

Events = Generator[Event, None, None]


@dataclass(frozen=True)
class Job:
    """A run that is decided and checked, and has not begun."""

    settings: RunSettings
    notes: tuple[str, ...]
    prompt: Prompt
    negative: Prompt
    plan: Plan
    remembered: Remembered


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

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        attention: Attention | None = None,
        profile: str = "auto",
    ) -> Pipeline:
        """Open a model folder and check every file in it by names and shapes; no weight is read yet.

        Without `model` the built-in holo-tiny is used. `device` is auto, cpu, cuda or cuda:N; `dtype` is auto
        (that of the files), bf16 or fp32; `attention` picks sparse or full experts where both are there;
        `profile` is auto, the name of a shipped profile, or a TOML file. Raises `CheckpointError` or
        `SettingsError`.
        """
        path = Path(model) if model is not None else tiny_model()
        folder = open_folder(path, attention)
        check_parts(folder)
        place = pick_device(device)
        number = pick_dtype(dtype, folder.high_noise)
        sizes = folder_sizes(folder, number.itemsize)
        budget, machine, why = pick_profile(profile, place, sizes)
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
        )

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
            attention=attention,
            dtype=next(name for name, dtype in DTYPES.items() if dtype == self.dtype),
            device=self.device.type,
            model=self.fingerprint,
            made_with=f"holo-lite {__version__}, torch {torch.__version__}",
        )
        prompt = read_prompt(storyboard.prompt, self.tokenizer)
        assert prompt.shots == len(settings.shot_frames), "captions and shots were compared before"
        negative = _read_negative(settings.negative, self.tokenizer)
        request = ClipRequest(settings.layout, attention, guided=settings.cfg != 1)
        remembered = Remembered.of(cache_folder(), self.machine.name, self.sizes.scheme, request)
        plan = remembered.apply(make_plan(self.profile, self.sizes, request, self.machine))
        planned = dataclasses.replace(settings, plan=plan_record(plan))
        return Job(planned, notes, prompt, negative, plan, remembered)

    def generate(self, storyboard: Storyboard, out: str | Path, options: Options = NOTHING_SAID) -> Events:
        """Prepare and run: yields what happens, and at the end `Finished`. Close it to cancel.

        Raises what `prepare` and `run` raise, before the first event is asked for.
        """
        return self.run(self.prepare(storyboard, options), Path(out))

    def run(self, job: Job, out: Path) -> Events:
        """Run a prepared job into the mp4 `out`, and a contact sheet of the same name beside it.

        Raises `OutputError` at once, before any weight is read, if `out` cannot be written.
        """
        check_writable(out)
        sheet = out.with_suffix(".png")
        if sheet.is_dir():
            raise OutputError(f"{sheet}: is a folder, where the contact sheet goes; name the video otherwise")
        return self._events(job, out, sheet)

    def _events(self, job: Job, out: Path, sheet: Path) -> Events:
        yield Resolved(job.settings, job.notes, job.plan, self.why)
        with capped(self.device, job.plan.budget):
            guidance, plan = yield from self._read(job)
            yield PhaseStarted("denoise", job.settings.steps)
            latents = initial_noise(Clip(job.settings.layout), job.settings.seed).to(self.device)
            denoiser = Denoiser(self.folder.experts, self.dtype, self.device, job.remembered.keep)
            latents, plan = yield from denoiser.run(job.settings, guidance, latents, plan)
            yield PhaseStarted("decode", job.settings.frames)
            precision = self.dtype if self.device.type == "cuda" else torch.float32  # a CPU convolves fp32 faster
            decoding = Decoding(self.folder.vae, precision, self.device, job.remembered.keep)
            yield from decoding.run(job.settings, latents, plan, out, sheet)

    def _read(self, job: Job) -> Generator[Event, None, tuple[Guidance, Plan]]:
        """Encode the prompts. Raises `RoomError` when the card has no memory left: nothing is smaller."""
        stairs = Stairs(self.device, _read_unpinned, job.remembered.keep)
        return (yield from stairs.run(partial(self._guidance, job), job.plan, lambda: "text"))

    def _guidance(self, job: Job, plan: Plan) -> Generator[Event, None, Guidance]:
        yield PhaseStarted("text", 0)
        guided = job.settings.cfg != 1
        prompts = [job.prompt, job.negative] if guided else [job.prompt]
        contexts = [
            Context(pad_rows(rows).to(self.device, self.dtype), self._windows(prompt))
            for rows, prompt in zip(self._encode(prompts, pinned=plan.pinned_ring), prompts, strict=True)
        ]
        return Guidance(contexts[0], contexts[1] if guided else None, job.settings.cfg)

    def _encode(self, prompts: list[Prompt], *, pinned: bool) -> list[Tensor]:
        path = self.folder.text_encoder
        return encode_prompts(
            prompts,
            lambda: TextEncoder.open(path, dtype=self.dtype, device=self.device, pinned=pinned),
            PromptCache(cache_folder() / "prompts"),
            identity=encoder_identity(path),
            dtype=self.dtype,
        )

    def _windows(self, prompt: Prompt) -> tuple[Tensor, ...] | None:
        if prompt.windows is None:
            return None
        return tuple(torch.tensor(prompt.windows.rows(shot), device=self.device) for shot in range(prompt.shots))


def _read_unpinned(plan: Plan, shortage: Shortage) -> tuple[Plan, str]:
    """The one rung there is while prompts are read, which take two small buffers on the host."""
    if shortage != "pinned":
        raise RoomError("memory ran out while reading the prompt; close other programs and try again")
    return unpinned(plan)


def _read_negative(text: str, tokenizer: PromptTokenizer) -> Prompt:
    """Read the negative prompt, which every shot sees whole. Raises `PromptError`."""
    try:
        prompt = read_prompt(text, tokenizer)
    except PromptError as error:
        raise PromptError(f"the negative prompt: {error}") from error
    if prompt.windows is not None:
        raise PromptError("the negative prompt: it has no shots of its own; remove the tags in brackets")
    return prompt
