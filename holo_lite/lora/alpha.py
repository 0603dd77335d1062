"""What an adapter's settings say of its strength, where its tensors do not.

An alpha tells by how much the product of the factors is scaled: alpha / rank. kohya's tools write one next to each
pair. diffusers keep it in the header, for every network of a pipeline under that network's name; peft in an
``adapter_config.json`` next to the file, which stays there when the file is renamed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from holo_lite.errors import CheckpointError, RecordError
from holo_lite.reading.files import read_bytes
from holo_lite.reading.trees import parse
from holo_lite.weights.plain_header import read_plain_header

SETTINGS_KEY = "lora_adapter_metadata"  # where diffusers keeps an adapter's settings in a safetensors header
SETTINGS_FILE = "adapter_config.json"  # and where peft does, next to its adapter_model.safetensors
PEFT_STEM = "adapter_model"
NOT_DONE = ("alpha_pattern", "use_rslora", "use_dora")


@dataclass(frozen=True)
class DeclaredAlphas:
    """Alphas by the beginning of the keys that they are for; an empty beginning is for all."""

    path: Path
    by_prefix: Mapping[str, float]

    def of(self, key: str) -> float | None:
        """The alpha of a tensor, None if none is declared.

        A single one is for all. Raises `CheckpointError` where there are several, none of that tensor's network.
        """
        own = [prefix for prefix in self.by_prefix if key.startswith(prefix)]
        if own:
            return self.by_prefix[max(own, key=len)]
        values = set(self.by_prefix.values())
        if len(values) > 1:
            named = ", ".join(f"{prefix}{value:g}" for prefix, value in sorted(self.by_prefix.items()))
            raise CheckpointError(
                f"{self.path}: declares several alphas ({named}), none of them for {key}; merge it first"
            )
        return values.pop() if values else None


def declared_alphas(path: Path, ranks: Collection[int]) -> DeclaredAlphas:
    """Read the settings of an adapter whose tensors do not say their alpha. `ranks` are those of its factors.

    Settings next to a file of another name than peft gives count if they are of one of these ranks.
    Raises `CheckpointError` for settings that change the arithmetic in a way that is not done here.
    """
    found: dict[str, float] = {}
    for settings in (_beside(path, ranks), _within(path)):
        _check_done(path, settings)
        for name, value in settings.items():
            prefix, dot, last = name.rpartition(".")
            if last == "lora_alpha" and isinstance(value, int | float) and not isinstance(value, bool):
                found[prefix + dot] = float(value)
    return DeclaredAlphas(path, found)


def _check_done(path: Path, settings: Mapping[str, object]) -> None:
    for name, value in settings.items():
        if value and name.rpartition(".")[2] in NOT_DONE:
            raise CheckpointError(
                f"{path}: sets {name}, which holo-lite does not support; merge it with peft first"
            )


def _beside(path: Path, ranks: Collection[int]) -> dict[str, object]:
    beside = path.parent / SETTINGS_FILE
    if not beside.is_file():
        return {}
    settings = _table(beside, read_bytes(beside).decode("utf-8", "replace"))
    rank = settings.get("r")
    return settings if path.stem == PEFT_STEM or (isinstance(rank, int) and rank in ranks) else {}


def _within(path: Path) -> dict[str, object]:
    if path.suffix != ".safetensors":
        return {}
    metadata = read_plain_header(path).metadata
    return _table(path, metadata[SETTINGS_KEY]) if SETTINGS_KEY in metadata else {}


def _table(path: Path, text: str) -> dict[str, object]:
    try:
        found = parse(text)
    except RecordError as error:
        raise CheckpointError(f"{path}: its LoRA settings are not JSON; download it again") from error
    return found if isinstance(found, dict) else {}
