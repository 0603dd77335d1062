"""Profiles: what a machine may spend on a run, as a person can read and change it.

A profile is a budget, not a recipe. It says how large the card is and what of it is spoken for, which schemes
suit, and between which bounds the plan may choose; the rest follows from the clip. The shipped ones are the
TOML files in ``profiles/``, and a person's own is taken by its path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

from holo_lite.errors import SettingsError, nearest
from holo_lite.model.clip import Chunks
from holo_lite.reading.files import read_text
from holo_lite.reading.trees import parse_toml
from holo_lite.schemes.names import check_scheme

GIB, MIB = 2**30, 2**20
SUFFIX = ".toml"
AUTO = "auto"  # no profile's name: the one that suits
MOST_GIB = 1024
CfgMode = Literal["auto", "joint", "sequential"]
Tiling = Literal["auto", "never", "always"]
Device = Literal["cuda", "cpu"]


@dataclass(frozen=True)
class Profile:
    """What a machine may spend, in bytes and tokens.

    On a CPU `card` is 0: the budget is the main memory that is free. `spare_percent` of what is planned is left to
    the allocator on top. `pinned` bounds host memory for weights. `own`: a person's file, not a shipped one.
    """

    name: str
    device: Device
    card: int
    context: int
    desktop: int
    spare_percent: int
    schemes: tuple[str, ...]
    cfg: CfgMode
    slots: int
    largest: Chunks
    smallest: Chunks
    tiling: Tiling
    pinned: int
    own: bool = False

    @property
    def headroom(self) -> int:
        """Bytes of the card that are not ours: CUDA's context, the desktop."""
        return self.context + self.desktop

    @property
    def rungs(self) -> tuple[Chunks, ...]:
        """The sizes of chunks to try: from the largest down by halves to the smallest."""
        found = [self.largest]
        while found[-1] != self.smallest:
            last = found[-1]
            found.append(
                Chunks(
                    max(last.attention // 2, self.smallest.attention),
                    max(last.feed_forward // 2, self.smallest.feed_forward),
                )
            )
        return tuple(found)


def shipped_profiles() -> tuple[Profile, ...]:
    """All profiles that come with holo-lite: cards from the smallest on, then the CPU."""
    found = [_read(Path(entry.name).stem, entry.read_text(encoding="utf-8"), entry.name) for entry in _shipped()]
    return tuple(sorted(found, key=lambda profile: (profile.device == "cpu", profile.card)))


def shipped_names() -> tuple[str, ...]:
    """The names of the profiles that come with holo-lite."""
    return tuple(sorted(Path(entry.name).stem for entry in _shipped()))


def find_profile(name: str) -> Profile:
    """Give the shipped profile of that name, or the one in the TOML file of that path.

    Raises `SettingsError` for an unknown name, a file that cannot be read, and keys or values that make no profile.
    """
    known = {profile.name: profile for profile in shipped_profiles()}
    if name in known:
        return known[name]
    path = Path(name)
    if path.suffix != SUFFIX:
        known_names = (AUTO, *known)
        raise SettingsError(
            f"profile '{name}': give a {SUFFIX} file or one of {', '.join(known_names)}"
            f"{_hint(name, known.values())}"
        )
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise SettingsError(f"{path}: cannot be read ({reason}); check the name") from error
    return replace(_read(path.stem, text, str(path)), own=True)


def _hint(name: str, profiles: Iterable[Profile]) -> str:
    """The nearest profile: for a size that is not shipped the next smaller, else the one written most like it."""
    size = re.fullmatch(r"(\d{1,4})\s*gi?b?", name.lower())
    if size is None:
        return nearest(name, (AUTO, *(profile.name for profile in profiles)))
    cards = [profile for profile in profiles if profile.device == "cuda"]
    below = [profile for profile in cards if profile.card <= int(size[1]) * GIB] or cards[:1]
    return f"; the nearest is '{below[-1].name}', and {AUTO} takes all that is free"


def _shipped() -> list[Any]:
    return [entry for entry in files("profiles").iterdir() if entry.name.endswith(SUFFIX)]


def _read(name: str, text: str, source: str) -> Profile:
    try:
        table = _Table(source, parse_toml(text))
    except ValueError as error:
        raise SettingsError(f"{source}: is not valid TOML: {error}") from error
    table.check_keys()
    device: Device = table.choice("device", get_args(Device))
    profile = Profile(
        name=name,
        device=device,
        card=table.whole("card_gib", 1, MOST_GIB) * GIB if device == "cuda" else 0,
        context=table.whole("context_mib", 0, MOST_GIB * 1024) * MIB,
        desktop=table.whole("desktop_mib", 0, MOST_GIB * 1024) * MIB,
        spare_percent=table.whole("spare_percent", 0, 50),
        schemes=table.schemes(),
        cfg=table.choice("cfg", get_args(CfgMode)),
        slots=table.whole("slots", 2, 3),
        largest=table.chunks("largest_chunks"),
        smallest=table.chunks("smallest_chunks"),
        tiling=table.choice("tiling", get_args(Tiling)),
        pinned=table.whole("pinned_gib", 0, MOST_GIB) * GIB,
    )
    _check(profile, source)
    return profile


def _check(profile: Profile, source: str) -> None:
    if profile.device == "cuda" and profile.headroom >= profile.card:
        raise SettingsError(f"{source}: context_mib and desktop_mib take the whole card; lower them")
    low, high = profile.smallest, profile.largest
    if low.attention > high.attention or low.feed_forward > high.feed_forward:
        raise SettingsError(f"{source}: smallest_chunks are larger than largest_chunks; swap them")


KEYS = {field.name for field in fields(Profile)} - {
    "name",
    "own",
    "card",
    "context",
    "desktop",
    "largest",
    "smallest",
    "pinned",
}
KEYS |= {"card_gib", "context_mib", "desktop_mib", "largest_chunks", "smallest_chunks", "pinned_gib"}


@dataclass(frozen=True)
class _Table:
    """A TOML table whose values are checked as they are taken."""

    source: str
    found: Mapping[str, Any]

    def check_keys(self) -> None:
        for key in self.found:
            if key not in KEYS:
                raise SettingsError(f"{self.source}: unknown key {key!a:.80}{nearest(key, KEYS)}")

    def _value(self, key: str) -> Any:
        if key not in self.found:
            raise SettingsError(f"{self.source}: {key} is missing; profiles/8gb.toml shows all keys")
        return self.found[key]

    def whole(self, key: str, low: int, high: int) -> int:
        value = self._value(key)
        if type(value) is not int or not low <= value <= high:
            raise SettingsError(f"{self.source}: {key} {value!r:.40}: give a whole number from {low} to {high}")
        return value

    def choice(self, key: str, allowed: tuple[str, ...]) -> Any:
        value = self._value(key)
        if value not in allowed:
            hint = nearest(str(value), allowed)
            raise SettingsError(f"{self.source}: {key} {value!r:.40}: give one of {', '.join(allowed)}{hint}")
        return value

    def chunks(self, key: str) -> Chunks:
        value = self._value(key)
        if not isinstance(value, list) or len(value) != 2 or not all(type(n) is int and n > 0 for n in value):
            raise SettingsError(
                f"{self.source}: {key} {value!r:.40}: give two numbers of tokens such as [8192, 4096]"
            )
        return Chunks(*value)

    def schemes(self) -> tuple[str, ...]:
        value = self._value("schemes")
        if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
            raise SettingsError(f'{self.source}: schemes {value!r:.40}: give a list of names such as ["nf4"]')
        try:
            return tuple(check_scheme(name) for name in value)
        except SettingsError as error:
            raise SettingsError(f"{self.source}: {error}") from error
