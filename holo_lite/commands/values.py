"""How the values of options are read: words, sizes, cuts, adapters, thresholds."""

from __future__ import annotations

import math
import re
from pathlib import Path

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from holo_lite.errors import SettingsError
from holo_lite.sampling.thresholds import parse_thresholds

SIZE_TEXT = re.compile(r"(\d{1,6})\s*[x×*]\s*(\d{1,6})", re.IGNORECASE)
SIZE = "holo_lite.size"  # where a context keeps what --size gave, as width and height
VARIANTS = ("sparse", "full", "wan")
KERNELS = ("auto", "sdpa", "cudnn", "flash", "efficient", "flash-attn-2", "flash-attn-3", "flash-attn-4", "sage")


class Word(click.ParamType[str]):
    """A word of a few, in upper or lower case; help and completion show them, and `more` that can stand there.

    Any other word is passed on: what refuses it knows best what to say.
    """

    name = "word"

    def __init__(self, *words: str, more: str = "") -> None:
        self.words, self.more = words, more

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002
        """The words, as help shows them."""
        return f"[{'|'.join((*self.words, *filter(None, [self.more])))}]"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        """The word that is meant."""
        return next((word for word in self.words if value.casefold() == word), value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """The words that begin so."""
        return [CompletionItem(word) for word in self.words if word.startswith(incomplete.casefold())]


def parse_size(text: str) -> tuple[int, int]:
    """Read ``832x480``, width first, as width and height. Raises `SettingsError`."""
    found = SIZE_TEXT.fullmatch(text.strip())
    if found is None:
        raise SettingsError(f"--size '{text}': write width x height in pixels, such as 832x480")
    return int(found[1]), int(found[2])


def read_cuts(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    """Cuts as frames, from 49,97."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"--cuts '{text}': give frame numbers such as 49,97,145") from None


def read_numbers(_: click.Context, param: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    """Numbers of shots, from 1,4."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"--{param.name} '{text}': give numbers of shots such as 1,4") from None


def read_images(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> dict[int, str]:
    """Pictures by the numbers of shots, from 2=keeper.png; each as a path that holds wherever it is read."""
    found: dict[int, str] = {}
    for text in texts:
        number, given, path = text.partition("=")
        if not (given and path and number.strip().isascii() and number.strip().isdigit()):
            raise SettingsError(f"--image '{text}': write the number of a shot and a file, such as 2=keeper.png")
        if int(number) in found:
            raise SettingsError(f"--image '{text}': shot {int(number)} has two pictures; keep one")
        found[int(number)] = str(Path(path).absolute())
    return found


def parse_lora_option(text: str) -> tuple[Path, float]:
    """Read ``FILE[:strength]``. A drive's colon, as in ``C:``, begins no strength. Raises `SettingsError`."""
    name, colon, tail = text.rpartition(":")
    if not colon or set(tail) & set("/\\") or (len(name) == 1 and name.isalpha()):
        name, tail = text, "1"
    try:
        strength = float(tail)
    except ValueError as error:
        raise SettingsError(f"'{text}': the strength '{tail}' is not a number; write FILE or FILE:0.8") from error
    if not name or not math.isfinite(strength):
        raise SettingsError(f"'{text}': must be FILE or FILE:STRENGTH, such as high.safetensors:0.8")
    return Path(name), strength


def read_adapters(
    _: click.Context, __: click.Parameter, texts: tuple[str, ...]
) -> dict[str, list[tuple[Path, float]]]:
    """Adapters by expert, from options such as high=FILE:0.8."""
    found: dict[str, list[tuple[Path, float]]] = {}
    for text in texts:
        noise, _sign, file = text.partition("=")
        if noise not in {"high", "low"} or not file:
            raise SettingsError(f"--lora '{text}': write high=FILE or low=FILE, then :STRENGTH if it is not 1")
        found.setdefault(f"{noise}_noise", []).append(parse_lora_option(file))
    return found


def read_cfg(_: click.Context, __: click.Parameter, text: str | None) -> float | tuple[float, float] | None:
    """The guidance scale, or that of the high-noise and that of the low-noise expert, from 4,3."""
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in {1, 2}:
        raise SettingsError(f"--cfg '{text}': give a number such as 5, or one for each expert such as 4,3")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def read_cache(_: click.Context, __: click.Parameter, text: str | None) -> tuple[float, float] | None:
    """Thresholds of the step cache, of the high-noise and the low-noise expert."""
    return parse_thresholds(text) if text is not None else None


def read_size(context: click.Context, parameter: click.Parameter, text: str | None) -> None:
    """Keep a size, and whether it was typed, for the sides, which are read after it."""
    if text is not None:
        typed = context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
        context.meta[SIZE] = (*parse_size(text), typed)


def read_side(context: click.Context, parameter: click.Parameter, pixels: int | None) -> int | None:
    """A side that is given, or that of --size. Raises `SettingsError` if both are typed and differ."""
    if SIZE not in context.meta:
        return pixels
    width, height, typed = context.meta[SIZE]
    given: int = width if parameter.name == "width" else height
    if typed and pixels not in {None, given}:
        raise SettingsError(f"--{parameter.name} {pixels} and --size {width}x{height} differ; give one of them")
    return given if pixels is None else pixels


def complete_profiles(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shipped profiles' names that begin so."""
    from holo_lite.plan.profile import shipped_names

    return [CompletionItem(name) for name in ("auto", *shipped_names()) if name.startswith(incomplete)]


def read_devices(_context: click.Context, _option: click.Parameter, said: str | None) -> tuple[str, ...]:
    """Devices in a list: cuda:0,cuda:1."""
    return tuple(word.strip() for word in said.split(",") if word.strip()) if said else ()
