"""Which scheme each tensor is stored under.

A recipe names a scheme for all components, may name another for one component, and may have rules for tensors
by name; the first rule that fits decides. As TOML:

    scheme = "nf4"

    [components]
    text_encoder = "int8"

    [[rule]]                      # first and last blocks of both experts in 8 bits
    component = "*_noise"
    name = "blocks.0.*"
    scheme = "int8"
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from holo_lite.errors import SettingsError, nearest
from holo_lite.reading.files import read_text
from holo_lite.reading.trees import parse_toml
from holo_lite.schemes.names import check_scheme

COMPONENTS = ("high_noise", "low_noise", "text_encoder")


@dataclass(frozen=True)
class Rule:
    """A scheme for tensors whose component and name fit shell patterns."""

    name: str
    scheme: str
    component: str = "*"


@dataclass(frozen=True)
class Recipe:
    """The schemes of a conversion."""

    scheme: str
    components: Mapping[str, str] = dataclasses.field(default_factory=dict)
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.scheme, *self.components.values(), *(rule.scheme for rule in self.rules)):
            check_scheme(name)
        unknown = [component for component in self.components if component not in COMPONENTS]
        unknown += [rule.component for rule in self.rules if not _fits_any(rule.component)]
        if unknown:
            hint = nearest(unknown[0], COMPONENTS) or f"; they are {', '.join(COMPONENTS)}"
            raise SettingsError(f"recipe: there is no component {unknown[0]!a:.80} to quantize{hint}")

    def scheme_for(self, component: str, tensor: str) -> str:
        """Name the scheme for a tensor of a component that can be quantized."""
        for rule in self.rules:
            if fnmatchcase(component, rule.component) and fnmatchcase(tensor, rule.name):
                return rule.scheme
        return self.components.get(component, self.scheme)

    def as_dict(self) -> dict[str, Any]:
        """The recipe as the manifest keeps it."""
        return dataclasses.asdict(self)


def _fits_any(pattern: str) -> bool:
    return any(fnmatchcase(component, pattern) for component in COMPONENTS)


def load_recipe(path: Path, scheme: str | None) -> Recipe:
    """Read a recipe from TOML; `scheme`, from the command line, goes before the file's own.

    Raises `SettingsError` for a file that cannot be read, unknown keys, schemes and components.
    """
    try:
        found = parse_toml(read_text(path))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); check the name") from error
    except ValueError as error:
        raise SettingsError(f"{path}: is not valid TOML: {error}") from error
    _refuse_unknown(path, found, ("scheme", "components", "rule"))
    rules = found.get("rule", [])
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise SettingsError(f"{path}: write each rule as a table headed [[rule]]")
    return Recipe(
        scheme=scheme or _text(path, found, "scheme"),
        components=_texts(path, found.get("components", {})),
        rules=tuple(_rule(path, rule) for rule in rules),
    )


def _rule(path: Path, found: Mapping[str, Any]) -> Rule:
    _refuse_unknown(path, found, ("component", "name", "scheme"))
    component = _text(path, found, "component") if "component" in found else "*"
    return Rule(_text(path, found, "name"), _text(path, found, "scheme"), component)


def _text(path: Path, found: Mapping[str, Any], key: str) -> str:
    if not isinstance(found.get(key), str):
        raise SettingsError(f'{path}: a recipe needs {key} = "…"; see docs/format.md')
    return str(found[key])


def _texts(path: Path, found: Any) -> dict[str, str]:
    if not isinstance(found, dict):
        raise SettingsError(f"{path}: write components as a table headed [components]")
    return {key: _text(path, found, key) for key in found}


def _refuse_unknown(path: Path, found: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in found:
        if key not in known:
            raise SettingsError(f"{path}: unknown key {key!a:.80}{nearest(key, known)}")
