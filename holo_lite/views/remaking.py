"""The command that makes a video again, from the settings it carries.

A video may come from anybody, and the command is there to be pasted. So every setting that is one of few must be
one of them, every number a number, and what is left, names of files, is quoted as single words.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping
from typing import get_args

from holo_lite.config import ATTENTIONS, Expert, published
from holo_lite.errors import SettingsError
from holo_lite.sampling.frozen_shots import KAPPA, FrozenShot
from holo_lite.settings import BUILT_IN, OFF, AddedLora, RunSettings, without_memory
from holo_lite.views.terminal import is_inert, shown, typed

DEVICES = ("cpu", "cuda")
SWITCH = ("on", "off")
LARGEST = 2**64
FILE, CAPTION = "FILE", "CAPTION"  # in place of a name or text that no quotation marks can hold


def check_words(settings: RunSettings) -> None:
    """Raise `SettingsError` for settings that no run of ours can have, which a command must not be made of."""
    from holo_lite.eightbit.limits import LinearMode
    from holo_lite.kernels.registry import KERNELS
    from holo_lite.opening.checks import DTYPES

    for name in ("frames", "height", "width", "steps", "seed"):
        _check_whole(name, getattr(settings, name))
    for cut in settings.cuts:
        _check_whole("cuts", cut)
    for name in ("fps", "cfg", "cfg_until", "shift"):
        _check_number(name, getattr(settings, name))
    if len(settings.cache) != len(OFF):
        raise _wrong("cache", settings.cache)
    for threshold in settings.cache:
        _check_number("cache", threshold)
    _check_one_of("attention", settings.attention, ATTENTIONS)
    _check_one_of("dtype", settings.dtype, DTYPES)
    _check_one_of("device", settings.device, DEVICES)
    kernels = {kernel.name for kernel in KERNELS}
    for name, known in {"kernel": kernels, "linear": get_args(LinearMode), "fused": SWITCH}.items():
        if (found := _table("computing", settings.computing).get(name)) is not None:
            _check_one_of(name, found, known)
    _check_files(settings)
    for name in ("model", "made_with"):
        _check_text(name, getattr(settings, name))
    _check_text("profile", _table("plan", settings.plan).get("profile") or "")


def command(settings: RunSettings) -> str:
    """The command that makes the same video from the storyboard that `inspect` prints.

    It leaves nothing to a default; only the model's folder must be filled in, and what `to_fill_in` names.
    """
    retaken = bool(_kept(settings))
    words = ["holo-lite", *(_retake(settings) if retaken else ["generate", "storyboard.toml"])]
    words += [] if settings.model.startswith(BUILT_IN) else ["--model", "FOLDER"]
    words += _profile(settings)
    if not retaken:
        words += _timing(settings)
        words += ["--height", str(settings.height), "--width", str(settings.width), "--fps", _exact(settings.fps)]
    words += ["--steps", str(settings.steps), "--cfg", _guidance(settings), "--seed", str(settings.seed)]
    words += [] if settings.shift == published(settings.attention).shift else ["--shift", _exact(settings.shift)]
    words += ["--attention", settings.attention, "--device", settings.device, "--dtype", settings.dtype]
    for lora in settings.lora:
        words += ["--lora", _lora(lora)]
    return typed([*words, *_savings(settings), *_computing(settings)])


def _guidance(settings: RunSettings) -> str:
    scales = [settings.cfg] if settings.cfg_low is None else [settings.cfg, settings.cfg_low]
    return ",".join(map(_exact, scales))


def to_fill_in(settings: RunSettings) -> Iterator[str]:
    """What a person must put into the command, a line each."""
    for source in sources(settings):
        yield f"{source}: what was given; put its folder in front of its name, if it is not here"
    for lora in settings.lora:
        yield f"{lora.file}: the LoRA with fingerprint {lora.fingerprint}; put its folder in front of its name"
    name = settings.plan.get("profile")
    if name and not _is_shipped(name):
        yield f"{name}.toml: a profile of whoever made this; give that file, or leave --profile out"


def sources(settings: RunSettings) -> list[str]:
    """The names of the videos and pictures that a video was made from, as a terminal may show them."""
    return [shown(name) for name in dict.fromkeys(shot.source for shot in settings.frozen.shots)]


def _timing(settings: RunSettings) -> Iterator[str]:
    timed = any(shot.frames is not None or shot.seconds is not None for shot in settings.storyboard.shots)
    frames, cuts = without_memory(settings)
    if not timed:
        yield from ("--frames", str(frames))
    if cuts and not timed:
        yield from ("--cuts", ",".join(map(str, cuts)))


def _profile(settings: RunSettings) -> Iterator[str]:
    if name := settings.plan.get("profile"):
        yield from ("--profile", name if _is_shipped(name) else _file(f"{name}.toml"))


def _kept(settings: RunSettings) -> list[FrozenShot]:
    """Shots that the video shows and that were kept whole, of the video that it was made from."""
    whole = settings.frozen.whole_shots(settings.layout)
    return [shot for shot in settings.frozen.shots if shot.shot > settings.frozen.memory and shot.shot in whole]


def _retake(settings: RunSettings) -> Iterator[str]:
    """The words that make shots of a video again, with the captions that they have now."""
    captions = settings.shown_captions
    yield from ("retake", _file(_kept(settings)[0].source))
    for number in settings.new_shots:
        caption = captions[number - 1]
        yield from ("--shot", str(number), "--caption", caption if is_inert(caption) else CAPTION)


def _savings(settings: RunSettings) -> Iterator[str]:
    """The options that skipped forwards."""
    if settings.cache != OFF:
        high, low = settings.cache
        yield from ("--cache", f"high={_exact(high)},low={_exact(low)}")
    if settings.cfg_until != 1:
        yield from ("--cfg-until", _exact(settings.cfg_until))
    if settings.frozen.shots and settings.frozen.kappa != KAPPA:
        yield from ("--kappa", _exact(settings.frozen.kappa))


def _lora(lora: AddedLora) -> str:
    noise = lora.expert.removesuffix("_noise")
    return f"{noise}={_file(lora.file)}:{_exact(lora.strength)}"


def _computing(settings: RunSettings) -> Iterator[str]:
    """How it computed, where `auto` might choose differently: on a CPU it is always plain."""
    record = settings.computing
    kept = {"kernel": record.get("kernel"), "compute": record.get("linear"), "fuse": record.get("fused")}
    plain = {"kernel": "sdpa", "compute": "plain", "fuse": "off"}
    for option, said in kept.items():
        if said is not None and (settings.device != "cpu" or said != plain[option]):
            yield from (f"--{option}", "bf16" if said == "plain" else said)


def _file(name: str) -> str:
    """A file's name as a word of the command; one that begins like an option is named from the folder."""
    if not is_inert(name):
        return FILE
    return f"./{name}" if name.startswith("-") else name


def _is_shipped(profile: str) -> bool:
    from holo_lite.plan.profile import shipped_profiles

    return profile in {each.name for each in shipped_profiles()}


def _exact(number: float) -> str:
    """All digits that distinguish it from other numbers, without ``.0``."""
    return repr(number).removesuffix(".0")


def _check_files(settings: RunSettings) -> None:
    for lora in settings.lora:
        _check_lora(lora)
    for shot in settings.frozen.shots:
        _check_text("frozen", shot.source)


def _check_lora(lora: AddedLora) -> None:
    _check_one_of("lora", lora.expert, get_args(Expert))
    _check_text("lora", lora.file)
    _check_text("lora", lora.fingerprint)
    _check_number("lora", lora.strength)


def _check_whole(name: str, value: object) -> None:
    if type(value) is not int or not 0 <= value < LARGEST:
        raise _wrong(name, value)


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > LARGEST or math.isnan(value):
        raise _wrong(name, value)


def _check_one_of(name: str, value: object, known: Container[str]) -> None:
    if not isinstance(value, str) or value not in known:
        raise _wrong(name, value)


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise _wrong(name, value)


def _table(name: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise _wrong(name, value)
    return value


def _wrong(name: str, value: object) -> SettingsError:
    return SettingsError(
        f"its setting {name} is {ascii(value)[:40]}, which no run has; it was changed, or is of a later version"
    )
