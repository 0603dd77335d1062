"""What the name of a file, and of the folders it lies in, tells of it.

Nobody agrees on how to name an expert: ``sparse_high_noise``, ``HoloCine-Sparse-HighNoise-Q4_K_M``,
``Wan2_2-T2V-A14B-LOW_HoloCine_full_fp8_e4m3fn_scaled_KJ``, ``high_noise_model/diffusion_pytorch_model``. The words
are the same, in any order and case. A word that is not there tells nothing, and two that contradict each other
tell nothing either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeVar

from holo_lite.config import Attention, Expert

SUFFIXES = (".safetensors.index.json", ".safetensors", ".pth", ".pt", ".gguf")
SHARD = re.compile(r"-\d{5}-of-\d{5}$")
DIFFUSERS_STEM = "diffusion_pytorch_model"
OWN_LAYOUT: dict[str, Expert] = {  # folders whose names tell the expert: Wan's own, and diffusers'
    "high_noise_model": "high_noise",
    "low_noise_model": "low_noise",
    "transformer": "high_noise",
    "transformer_2": "low_noise",
}
NOISES: dict[str, Expert] = {"high": "high_noise", "low": "low_noise"}
NO_NETWORK = ("lora", "loras", "lycoris", "locon", "lokr", "adapter", "optimizer", "ema")

Told = TypeVar("Told")


@dataclass(frozen=True)
class NameTraits:
    """What a name tells. None: nothing, or both.

    `is_holocine` and `is_wan` are whose the file is by its name; the experts of Wan itself are dense.
    """

    noise: Expert | None
    attention: Attention | None
    is_holocine: bool
    is_wan: bool


def stem(name: str) -> str:
    """A weight file's name without its suffix. Nothing for other files and for single shards."""
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            found = name[: -len(suffix)]
            return "" if SHARD.search(found) else found
    return ""


def words(name: str) -> list[str]:
    """The words of a name in small letters: ``HighNoise-Q4_K_M`` has high, noise, q, 4, k and m."""
    return re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


def squeezed(name: str) -> str:
    """Letters and digits alone, in small letters."""
    return "".join(words(name))


def is_network(name: str) -> bool:
    """Whether a name may be that of a whole network, not of an adapter or a training's state."""
    return not set(NO_NETWORK) & set(words(name))


def traits(parts: Sequence[str]) -> NameTraits:
    """Read the names from the nearest, the file's own stem, outwards; what a nearer one tells goes first."""
    own_layout = parts[0] == DIFFUSERS_STEM and len(parts) > 1 and parts[1] in OWN_LAYOUT
    noise: Expert | None = OWN_LAYOUT[parts[1]] if own_layout else _first(_noises(parts))
    is_holocine = any("holocine" in squeezed(part) for part in parts)
    named = parts if own_layout else parts[:1]  # a folder of Wan's may hold a HoloCine expert without its name
    is_wan = not is_holocine and any(_is_wan(part) for part in named)
    attention: Attention | None = _first(map(_attention, parts)) or ("wan" if is_wan else None)
    return NameTraits(noise, attention, is_holocine, is_wan)


def outwards(root: PurePath, path: PurePath) -> tuple[str, ...]:
    """The stem of a file under `root`, then its folders outwards, and that of `root` last."""
    inside = path.relative_to(root).parts
    return (stem(path.name) or path.name, *reversed(inside[:-1]), root.name)


def _first(found: Iterable[Told | None]) -> Told | None:
    return next((one for one in found if one is not None), None)


def _noises(parts: Sequence[str]) -> Iterator[Expert | None]:
    """What the stem tells, then the folders outwards: of those ``low`` and ``HighNoise`` do, not ``low-vram``."""
    own, *folders = parts[:-1] or parts
    yield _noise_named(own) or _one({NOISES[word] for word in words(own) if word in NOISES})
    for folder in folders:
        yield _noise_named(folder) or NOISES.get(squeezed(folder))


def _noise_named(name: str) -> Expert | None:
    return _one({noise for word, noise in NOISES.items() if f"{word}noise" in squeezed(name)})


def _one(found: set[Told]) -> Told | None:
    return found.pop() if len(found) == 1 else None


def _attention(name: str) -> Attention | None:
    text = " ".join(words(name))
    found: set[Attention] = set()
    if re.search(r"\bsparse", text):
        found.add("sparse")
    if re.search(r"\b(full|dense)(?! precision)(att\w*)?\b", text):
        found.add("full")
    return _one(found)


def _is_wan(name: str) -> bool:
    return any(re.fullmatch(r"wan(video|ai)?", word) for word in words(name))
