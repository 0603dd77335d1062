"""Which files make a model, who publishes them, and under which terms.

The repositories hold much more: both variants of the experts, other formats, Wan's own experts. A file is found by
the end of its path, for the folders above it have been renamed before.
"""

from __future__ import annotations

from dataclasses import dataclass

from holo_lite.config import Attention


@dataclass(frozen=True)
class Repository:
    """A repository of the hub, and the licence of what it holds."""

    name: str
    licence: str


@dataclass(frozen=True)
class ReleasedFile:
    """A file by the end of its path in its repository; also where it goes in the model's folder."""

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


def wanted(variant: Attention) -> tuple[ReleasedFile, ...]:
    """The files of the sparse or the full model."""
    experts = (f"{variant}_{noise}.safetensors" for noise in ("high_noise", "low_noise"))
    return (*(ReleasedFile(HOLOCINE, name) for name in experts), *SHARED)
