"""Which files make a model, who publishes them, and under which terms.

The repositories hold much more: both variants of the experts, other formats. A file is found by the end of its
path, for the folders above it have been renamed before. Wan's own experts are in pieces, of which the repository's
list says how many there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from holo_lite.config import Attention


@dataclass(frozen=True)
class Repository:
    """A repository of the hub, and the licence of what it holds."""

    name: str
    licence: str


@dataclass(frozen=True)
class ReleasedFile:
    """A file by the end of its path in its repository; also where it goes in the model's folder.

    A path that ends in ``/*`` stands for all pieces of a network in that folder.
    """

    repository: Repository
    path: str


HOLOCINE = Repository(
    "hlwang06/HoloCine",
    "CC BY-NC-SA 4.0: for research and other non-commercial use, with attribution; what you make of them is "
    "shared under the same terms",
)
WAN = Repository("Wan-AI/Wan2.2-T2V-A14B", "Apache-2.0")
SHARED = (
    ReleasedFile(WAN, "models_t5_umt5-xxl-enc-bf16.pth"),
    ReleasedFile(WAN, "Wan2.1_VAE.pth"),
    ReleasedFile(WAN, "google/umt5-xxl/tokenizer.json"),
)


WAN_EXPERTS = (ReleasedFile(WAN, "high_noise_model/*"), ReleasedFile(WAN, "low_noise_model/*"))
PIECES = (".safetensors", ".safetensors.index.json")


def wanted(variant: Attention) -> tuple[ReleasedFile, ...]:
    """The files of the sparse or the full model, or of the base model."""
    if variant == "wan":
        return (*WAN_EXPERTS, *SHARED)
    experts = (f"{variant}_{noise}.safetensors" for noise in ("high_noise", "low_noise"))
    return (*(ReleasedFile(HOLOCINE, name) for name in experts), *SHARED)


def pieces(file: ReleasedFile, listed: Iterable[str]) -> tuple[ReleasedFile, ...]:
    """A file, or all those that it stands for among the paths of its repository."""
    if not file.path.endswith("/*"):
        return (file,)
    folder = file.path.removesuffix("*")
    found = sorted(path for path in listed if f"/{path}".rpartition(f"/{folder}")[1])
    return tuple(
        ReleasedFile(file.repository, f"{folder}{path.rpartition('/')[2]}")
        for path in found
        if path.endswith(PIECES)
    )
