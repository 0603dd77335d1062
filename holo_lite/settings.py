"""All that determines a run, in one frozen record that travels inside the video.

`RunSettings` holds every choice as it was resolved: nothing in it says "default" or "auto". Two runs with
equal settings on the same device make the same video, so a video that carries its settings can be made
again. A later version reads all records of earlier ones (`holo_lite.system.records`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from holo_lite.config import ATTENTIONS, WAN22, Attention, Defaults, Expert
from holo_lite.errors import SettingsError, StoryboardError, nearest
from holo_lite.reading import values
from holo_lite.sampling.bounds import check_cache, check_number, check_share, check_side, check_text
from holo_lite.sampling.frozen_shots import NOTHING_FROZEN, Frozen
from holo_lite.sampling.schedule import SHIFT, Schedule
from holo_lite.story.memory import behind, without
from holo_lite.story.shots import ShotLayout
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.story.timeline import Timeline, resolve_timeline
from holo_lite.system.records import Codec, Origin

SEEDS_APART = 2**32  # from here on noise is that of a smaller seed
_READERS: Mapping[str, Callable[[str, object], object]] = {
    **dict.fromkeys(("frames", "height", "width", "steps", "seed"), values.whole),
    **dict.fromkeys(("fps", "cfg_until", "kappa", "shift"), values.real),
    **dict.fromkeys(("negative", "attention"), values.text),
    "cuts": values.wholes,
    "cache": values.pair,
    "cfg": values.one_or_two,
}
OFF = (0.0, 0.0)  # no step is skipped
BUILT_IN = "tiny-"  # what the fingerprint of the built-in model begins with
OWN_SCHEDULE = Origin(version=3, runs_from=3)  # a reader that knows no shift would make another video


@dataclass(frozen=True)
class Options:
    """The options of a run; they override the storyboard. None: not given.

    `frames` is the length of the video, and `cuts` the first frames of all shots but the first, counted from 0; all
    are rounded to 4t+1. `height` and `width` are pixels, multiples of 16; `fps` is frames a second. `steps` says
    how many denoising steps there are, `cfg` is the guidance scale (1: no negative branch), or one for the
    high-noise and one for the low-noise expert; `shift` bends the schedule towards high noise; `seed` is the
    noise's, `negative` what should not be seen. `attention` must be that of the model. `cache` are the step cache's
    thresholds, of the high-noise and the low-noise expert, from 0 (off) to 1; `cfg_until` is the part of the
    steps, from the first on, that is guided. `kappa` is how noisy the model sees frozen frames, from 0 to 1 (as
    noisy as the others). Raises `SettingsError` for a value of another type.
    """

    frames: int | None = None
    cuts: tuple[int, ...] | None = None
    height: int | None = None
    width: int | None = None
    fps: float | None = None
    steps: int | None = None
    cfg: float | tuple[float, float] | None = None
    seed: int | None = None
    negative: str | None = None
    attention: Attention | None = None
    cache: tuple[float, float] | None = None
    cfg_until: float | None = None
    kappa: float | None = None
    shift: float | None = None

    def __post_init__(self) -> None:
        for name, read in _READERS.items():
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, read(name, value))


NOTHING_SAID = Options()


def check_options(options: Options) -> None:
    """Raise `SettingsError` for what a caller without a type checker may give in the place of options."""
    if not isinstance(options, Options):
        raise values.wrong("options", options, "Options, such as Options(seed=7)")


@dataclass(frozen=True)
class AddedLora:
    """An adapter that was added to an expert as it ran: its file's name and fingerprint, and how strongly."""

    expert: Expert
    file: str
    fingerprint: str
    strength: float


@dataclass(frozen=True)
class RunSettings:
    """A run, wholly determined. Frames and cuts are of the form 4t+1, sizes in pixels."""

    storyboard: Storyboard
    frames: int
    cuts: tuple[int, ...]
    height: int
    width: int
    fps: float
    steps: int
    cfg: float
    seed: int
    negative: str
    attention: Attention
    dtype: Literal["bf16", "fp32"]
    device: Literal["cpu", "cuda"]
    model: str  # fingerprint of the weights; the built-in's begins with BUILT_IN
    made_with: str = ""  # versions of holo-lite and torch
    plan: Mapping[str, Any] = field(default_factory=dict)  # chunks, branches, tiles: as they were in the end
    lora: tuple[AddedLora, ...] = ()
    cache: tuple[float, float] = OFF  # the step cache's thresholds, of the high-noise and the low-noise expert
    cfg_until: float = 1.0  # the part of the schedule, from its beginning, that is guided
    computing: Mapping[str, str] = field(default_factory=dict)  # kernel, format of products, fused operations
    frozen: Frozen = NOTHING_FROZEN  # which latent frames are given, and how many shots are not shown
    cfg_low: float | None = None  # guidance of the low-noise expert, where it is not `cfg`
    shift: float = SHIFT  # of the schedule
    origin: Origin = OWN_SCHEDULE  # a change of any field is a new version

    @property
    def layout(self) -> ShotLayout:
        """The clip's shots among its latent frames and tokens."""
        return ShotLayout.from_frames(self.frames, self.cuts, self.height, self.width)

    @property
    def guided_steps(self) -> int:
        """How many steps, from the first on, compute the negative branch, too."""
        return self.schedule.part(self.cfg_until) if self.is_guided else 0

    @property
    def schedule(self) -> Schedule:
        """All steps."""
        return Schedule.of(self.steps, self.shift)

    @property
    def is_guided_throughout(self) -> bool:
        """Whether every step has two guidance branches."""
        low = self.cfg if self.cfg_low is None else self.cfg_low
        return self.cfg != 1 and low != 1 and self.guided_steps == self.steps

    @property
    def is_guided(self) -> bool:
        """Whether a negative branch is computed at all."""
        return self.cfg != 1 or self.cfg_low not in {None, 1}

    @property
    def shot_frames(self) -> list[tuple[int, int]]:
        """First frame and the one after the last, of each shot."""
        return list(zip((0, *self.cuts), (*self.cuts, self.frames), strict=True))

    @property
    def hidden_frames(self) -> int:
        """Frames of the memory, at the clip's beginning, which the video does not show."""
        return self.shot_frames[self.frozen.memory][0]

    @property
    def shown(self) -> Timeline:
        """Length and cuts of the video: the clip's without its memory, counted from the video's first frame."""
        hidden, cuts = self.hidden_frames, self.cuts[self.frozen.memory :]
        return Timeline(self.frames - hidden, tuple(cut - hidden for cut in cuts), ())

    @property
    def shown_captions(self) -> list[str]:
        """One caption a shot of the video."""
        return self.storyboard.shot_captions()

    @property
    def new_shots(self) -> dict[int, tuple[int, int]]:
        """First frame and the one after the last of every shot that is not given, by its number in the video."""
        kept = self.frozen.whole_shots(self.layout)
        shown = enumerate(self.shown.shot_frames, start=1)
        return {number: span for number, span in shown if self.frozen.memory + number not in kept}

    @property
    def summary(self) -> str:
        """Size, length, steps and seed, for a person."""
        steps = "1 step" if self.steps == 1 else f"{self.steps} steps"
        return f"{self.width}×{self.height}, {self.shown.num_frames} frames, {steps}, seed {self.seed}"

    @property
    def options(self) -> Options:
        """The options that, with the storyboard, make this video again with the same model."""
        names = [option.name for option in dataclasses.fields(Options)]
        frames, cuts = without_memory(self)
        cfg = self.cfg if self.cfg_low is None else (self.cfg, self.cfg_low)
        given: dict[str, Any] = {"frames": frames, "cuts": cuts, "kappa": self.frozen.kappa, "cfg": cfg}
        said = Options(**{name: given[name] if name in given else getattr(self, name) for name in names})
        if any(shot.frames is not None or shot.seconds is not None for shot in self.storyboard.shots):
            return dataclasses.replace(
                said, frames=None, cuts=None
            )  # the shots give the timing, and must be alone in that
        return said

    def to_json(self) -> str:
        """Write the record as JSON on one line."""
        return SETTINGS.write(self)

    @classmethod
    def from_json(cls, text: str) -> RunSettings:
        """Read a record back. Raises `RecordError` if it is none, or a later version's that must not run here."""
        return SETTINGS.read(text)


def resolve(
    storyboard: Storyboard,
    options: Options,
    defaults: Defaults,
    *,
    frozen: Frozen = NOTHING_FROZEN,
    **machine: Any,
) -> tuple[RunSettings, tuple[str, ...]]:
    """Decide everything about a run: options go before the storyboard, that before the model's defaults.

    `frozen` is what is given of the clip; `machine` gives attention, dtype, device, model and made_with as resolved
    by the caller. Returns the settings and the notes the person must see. Raises `StoryboardError` or
    `SettingsError`.
    """

    def choose(name: str) -> Any:
        said = getattr(options, name)
        written = getattr(storyboard, name)
        return next(value for value in (said, written, getattr(defaults, name, 0)) if value is not None)

    fps = check_number("fps", choose("fps"))
    timeline = resolve_timeline(
        storyboard, default_frames=defaults.frames, fps=fps, frames=options.frames, cuts=options.cuts
    )
    memory = [shot.frames for shot in frozen.shots[: frozen.memory]]
    whole, cuts = behind(timeline.num_frames, timeline.cuts, memory)
    if machine["attention"] == "wan":
        _check_base_model(frozen)
    high, low = _guidance(options, storyboard, defaults)
    settings = RunSettings(
        storyboard=storyboard.without_folders(),
        frames=whole,
        cuts=cuts,
        height=check_side("height", choose("height")),
        width=check_side("width", choose("width")),
        fps=fps,
        steps=int(check_number("steps", choose("steps"))),
        cfg=check_number("cfg", high),
        cfg_low=None if low is None else check_number("cfg", low),
        shift=check_number("shift", defaults.shift if options.shift is None else options.shift),
        seed=int(check_number("seed", choose("seed"))),
        negative=check_text("negative", choose("negative")),
        cache=check_cache(options.cache or OFF),
        cfg_until=check_share("cfg-until", 1.0 if options.cfg_until is None else options.cfg_until),
        frozen=dataclasses.replace(frozen, kappa=check_number("kappa", _kappa(options, frozen))),
        **machine,
    )
    return settings, (*timeline.notes, *_seed_notes(settings.seed), *_base_model_notes(settings))


def _guidance(options: Options, storyboard: Storyboard, defaults: Defaults) -> tuple[float, float | None]:
    """The guidance scales of both experts; one that is given holds for both."""
    said = options.cfg if options.cfg is not None else storyboard.cfg
    high, low = said if isinstance(said, tuple) else (said, None)
    if high is None:
        high, low = defaults.cfg, defaults.cfg_low
    return high, None if low == high else low


def _check_base_model(frozen: Frozen) -> None:
    """Raise `SettingsError` for what only HoloCine can: shots that are seen and not shown."""
    if frozen.memory:
        raise SettingsError("Wan 2.2 continues no video and takes no pictures; use a model of HoloCine's")


def _base_model_notes(settings: RunSettings) -> Iterator[str]:
    """What a person who knows HoloCine should know of a run of the base model."""
    if settings.attention != "wan":
        return
    if settings.storyboard.raw is not None and settings.storyboard.untagged != settings.storyboard.raw.strip():
        yield "Wan 2.2 knows no tags; it reads the captions as one text"
    if settings.cuts:
        yield (
            "Wan 2.2 was not trained for several shots: each caption is heard most in the middle of its shot, cuts "
            "are soft, and characters stay themselves by the global caption alone"
        )
    if settings.frames > WAN22.frames:
        yield f"Wan 2.2 was trained for {WAN22.frames} frames; {settings.frames} may repeat or drift"


def without_memory(settings: RunSettings) -> tuple[int, tuple[int, ...]]:
    """Length and cuts that were asked for: those of the clip as if it had no memory."""
    return without(settings.frames, settings.cuts, settings.frozen.memory)


def _kappa(options: Options, frozen: Frozen) -> float:
    return frozen.kappa if options.kappa is None else options.kappa


def _seed_notes(seed: int) -> Iterator[str]:
    """PyTorch's generator on a CPU, which all noise comes from, takes the lower 32 bits of a seed."""
    if seed >= SEEDS_APART:
        yield f"seed {seed} gives the same noise as seed {seed % SEEDS_APART}: noise differs for seeds below 2^32"


def check_attention(name: str) -> Attention:
    """Return the attention of that name, or raise `SettingsError`."""
    for attention in ATTENTIONS:
        if name == attention:
            return attention
    raise SettingsError(f"attention '{name}': give one of {', '.join(ATTENTIONS)}{nearest(name, ATTENTIONS)}")


def _check_settings(settings: RunSettings) -> None:
    """Raise the `HoloError` of its kind for settings that `resolve` would never have made."""
    for side in ("height", "width"):
        check_side(side, getattr(settings, side))
    for name in ("fps", "steps", "cfg", "seed", "shift"):
        check_number(name, getattr(settings, name))
    check_number("cfg", settings.cfg if settings.cfg_low is None else settings.cfg_low)
    check_cache(settings.cache)
    check_share("cfg_until", settings.cfg_until)
    check_number("kappa", settings.frozen.kappa)
    shots = tuple(Shot(shot.caption) for shot in settings.storyboard.shots)
    board = dataclasses.replace(settings.storyboard, shots=shots, source=None)
    memory = settings.frozen.memory
    if memory > len(settings.cuts):
        raise StoryboardError(f"{memory} shots are not shown, and there are only {len(settings.cuts) + 1}")
    asked = without(settings.frames, settings.cuts, memory)
    timeline = resolve_timeline(board, default_frames=0, fps=settings.fps, frames=asked[0], cuts=asked[1])
    whole = behind(timeline.num_frames, timeline.cuts, [shot.frames for shot in settings.frozen.shots[:memory]])
    if whole != (settings.frames, settings.cuts):
        raise StoryboardError(f"frames and cuts are not of the form 4t+1: {settings.frames}, {settings.cuts}")
    settings.frozen.check(settings.layout)


SETTINGS = Codec(RunSettings, upgrades={1: dict, 2: dict}, sound=_check_settings)
