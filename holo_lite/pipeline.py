"""The way of a storyboard to a video.

    storyboard ─ resolve ─ prompts ─ text encoder ─ contexts ─┐
                              noise ──────────────────────── sampler ─ latents ─ VAE ─ frames ─ mp4

Everything that can be checked without weights is checked before the first is read. One network stands in
memory at a time: the text encoder, an expert, the other expert, the VAE. A run is a generator of events;
closing it cancels the run and leaves nothing half-written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from holo_lite import __version__
from holo_lite.config import Attention
from holo_lite.device import pick_device
from holo_lite.errors import CheckpointError, OutputError, PromptError, SettingsError
from holo_lite.events import Event, Finished, FrameDone, PhaseStarted, Resolved, StepDone
from holo_lite.experts import FileExperts
from holo_lite.film.contact_sheet import ContactSheet
from holo_lite.film.vae import check_vae, decode_frames, load_vae, to_uint8
from holo_lite.film.video import VideoWriter, check_writable
from holo_lite.model.clip import Chunks, Clip
from holo_lite.model.load import check_expert
from holo_lite.places import cache_folder
from holo_lite.sampler import Context, Guidance, initial_noise, sample
from holo_lite.schedule import Schedule
from holo_lite.settings import TOY, Options, RunSettings, resolve
from holo_lite.story.storyboard import Storyboard
from holo_lite.text.cache import PromptCache, encode_prompts, encoder_identity
from holo_lite.text.encoder import TextEncoder, check_text_encoder, pad_rows
from holo_lite.text.windows import Prompt, PromptTokenizer, read_prompt
from holo_lite.toy import toy_model
from holo_lite.weights.files import open_weights
from holo_lite.weights.folder import ModelFolder, fingerprint, open_folder

DEFAULT_CHUNKS = Chunks()
NOTHING_SAID = Options()
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}

Events = Generator[Event, None, None]


@dataclass(frozen=True)
class Job:
    """A run that is decided and checked, and has not begun."""

    settings: RunSettings
    notes: tuple[str, ...]
    prompt: Prompt
    negative: Prompt


@dataclass(frozen=True)
class Pipeline:
    """A model, and where and how precisely it computes."""

    folder: ModelFolder
    tokenizer: PromptTokenizer
    device: torch.device
    dtype: torch.dtype
    fingerprint: str
    is_toy: bool = False
    chunks: Chunks = DEFAULT_CHUNKS

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        attention: Attention | None = None,
    ) -> Pipeline:
        """Open a model folder and check every file in it by names and shapes; no weight is read yet.

        Without `model` the built-in toy is used. `device` is auto, cpu, cuda or cuda:N; `dtype` is auto
        (that of the files), bf16 or fp32; `attention` picks sparse or full experts where both are there.
        Raises `CheckpointError` or `SettingsError`.
        """
        path = Path(model) if model is not None else toy_model(cache_folder())
        folder = open_folder(path, attention)
        _check_parts(folder)
        return cls(
            folder=folder,
            tokenizer=PromptTokenizer(folder.tokenizer),
            device=pick_device(device),
            dtype=pick_dtype(dtype, folder.high_noise),
            fingerprint=(TOY if model is None else "") + fingerprint(map(_identity, folder.weight_paths)),
            is_toy=model is None,
        )

    def prepare(self, storyboard: Storyboard, options: Options = NOTHING_SAID) -> Job:
        """Decide everything about a run and check it: timing, sizes, captions, tokens.

        Raises `StoryboardError`, `PromptError` or `SettingsError`; reads no weight.
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
        return Job(settings, notes, prompt, _read_negative(settings.negative, self.tokenizer))

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
        yield Resolved(job.settings, job.notes)
        yield PhaseStarted("text", 0)
        guidance = self._guidance(job)
        yield PhaseStarted("denoise", job.settings.steps)
        latents = yield from self._denoise(job.settings, guidance)
        yield PhaseStarted("decode", job.settings.frames)
        yield from self._decode(job.settings, latents, out, sheet)

    def _guidance(self, job: Job) -> Guidance:
        guided = job.settings.cfg != 1
        prompts = [job.prompt, job.negative] if guided else [job.prompt]
        contexts = [
            Context(pad_rows(rows).to(self.device, self.dtype), self._windows(prompt))
            for rows, prompt in zip(self._encode(prompts), prompts, strict=True)
        ]
        return Guidance(contexts[0], contexts[1] if guided else None, job.settings.cfg)

    def _encode(self, prompts: list[Prompt]) -> list[Tensor]:
        path = self.folder.text_encoder
        return encode_prompts(
            prompts,
            lambda: TextEncoder.load(path, dtype=self.dtype, device=self.device),
            PromptCache(cache_folder() / "prompts"),
            identity=encoder_identity(path),
            dtype=self.dtype,
        )

    def _windows(self, prompt: Prompt) -> tuple[Tensor, ...] | None:
        if prompt.windows is None:
            return None
        return tuple(torch.tensor(prompt.windows.rows(shot), device=self.device) for shot in range(prompt.shots))

    def _denoise(self, settings: RunSettings, guidance: Guidance) -> Generator[Event, None, Tensor]:
        clip = Clip(settings.layout, settings.attention, self.chunks)
        experts = FileExperts(self.folder.high_noise, self.folder.low_noise, self.dtype, self.device)
        latents = initial_noise(clip, settings.seed).to(self.device)
        for progress in sample(experts, latents, guidance, Schedule.of(settings.steps), clip):
            latents = progress.latents
            yield StepDone(progress)
        return latents

    def _decode(self, settings: RunSettings, latents: Tensor, out: Path, sheet: Path) -> Events:
        vae = load_vae(self.folder.vae, dtype=self.dtype, device=self.device)
        contacts = ContactSheet(settings.shot_frames, settings.storyboard.shot_captions(), fps=settings.fps)
        writer = VideoWriter(
            out, width=settings.width, height=settings.height, fps=settings.fps, metadata=settings.to_json()
        )
        with writer as video:
            for index, frame in enumerate(decode_frames(vae, latents)):
                pixels = to_uint8(frame)
                video.add(pixels)
                contacts.add(index, pixels)
                yield FrameDone(index, pixels)
        contacts.save(sheet)
        yield Finished(out, sheet, settings)


def _check_parts(folder: ModelFolder) -> None:
    """Check every network by names and shapes, and that they belong together."""
    high, low = check_expert(folder.high_noise), check_expert(folder.low_noise)
    if high != low:
        raise CheckpointError(
            f"{folder.low_noise}: has other sizes than {folder.high_noise.name}; use one model's files"
        )
    width = check_text_encoder(folder.text_encoder)
    if width != high.text_dim:
        raise CheckpointError(
            f"{folder.text_encoder}: gives rows of {width} numbers, the experts read {high.text_dim}; "
            "use the text encoder the experts came with"
        )
    check_vae(folder.vae)


def _read_negative(text: str, tokenizer: PromptTokenizer) -> Prompt:
    """Read the negative prompt, which every shot sees whole. Raises `PromptError`."""
    try:
        prompt = read_prompt(text, tokenizer)
    except PromptError as error:
        raise PromptError(f"the negative prompt: {error}") from error
    if prompt.windows is not None:
        raise PromptError("the negative prompt: it has no shots of its own; remove the tags in brackets")
    return prompt


def pick_dtype(name: str, expert: Path) -> torch.dtype:
    """Return the compute dtype: fp32 where asked for or where the expert is stored so, else bf16."""
    if name in DTYPES:
        return DTYPES[name]
    if name != "auto":
        raise SettingsError(f"dtype '{name}': give auto, bf16 or fp32")
    stored = {entry.dtype for entry in open_weights(expert).entries.values()}
    return torch.float32 if stored == {torch.float32} else torch.bfloat16


def _identity(path: Path) -> str:
    """The fingerprint of one part of the model: a file of weights, a folder of them, or the tokenizer."""
    if path.is_dir():
        return "".join(open_weights(file).fingerprint for file in sorted(path.glob("*.safetensors")))
    if path.suffix == ".json" and not path.name.endswith(".index.json"):
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    return open_weights(path).fingerprint
