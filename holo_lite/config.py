"""The shape of a transformer, read off its checkpoint.

HoloCine adds no parameters to Wan 2.2 T2V A14B, so its shape follows from the tensors themselves. Only the
number of heads leaves no trace there: the released models have heads of 128, and a smaller model says
otherwise in a ``dit_config.json`` beside its weights.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from holo_lite.errors import CheckpointError, nearest

Attention = Literal["sparse", "full"]
ATTENTIONS: tuple[Attention, ...] = get_args(Attention)
Shapes = Mapping[str, tuple[int, ...]]

RELEASED_HEAD_DIM = 128
PATCH = 2  # latent rows and columns that make one token; one latent frame at a time


@dataclass(frozen=True)
class DiTConfig:
    """Sizes of one expert. Widths are counted in numbers, not bytes."""

    dim: int
    num_heads: int
    ffn_dim: int
    num_layers: int
    in_dim: int = 16
    out_dim: int = 16
    text_dim: int = 4096
    freq_dim: int = 256
    eps: float = 1e-6

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.num_heads


HOLOCINE_14B = DiTConfig(dim=5120, num_heads=40, ffn_dim=13824, num_layers=40)


def dit_config(shapes: Shapes, source: Path) -> DiTConfig:
    """Infer an expert's configuration from its tensors' shapes and a ``dit_config.json`` beside `source`.

    Raises `CheckpointError` when a tensor that decides a size is missing, or the sizes do not fit together.
    """
    try:
        config = _from_shapes(shapes)
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{source}: is not a Wan 2.2 T2V A14B expert: no usable {error}") from error
    config = dataclasses.replace(config, **_beside(source))
    if config.num_heads < 1 or config.dim % config.num_heads or config.head_dim % 2:
        raise CheckpointError(
            f"{source}: width {config.dim} does not divide into {config.num_heads} heads; "
            "give num_heads in a dit_config.json beside it"
        )
    return config


def _from_shapes(shapes: Shapes) -> DiTConfig:
    dim, in_dim, *_ = shapes["patch_embedding.weight"]
    blocks = {int(name.split(".")[1]) for name in shapes if name.startswith("blocks.")}
    return DiTConfig(
        dim=dim,
        num_heads=dim // RELEASED_HEAD_DIM,
        ffn_dim=shapes["blocks.0.ffn.0.weight"][0],
        num_layers=max(blocks) + 1,
        in_dim=in_dim,
        out_dim=shapes["head.head.weight"][0] // PATCH**2,
        text_dim=shapes["text_embedding.0.weight"][1],
        freq_dim=shapes["time_embedding.0.weight"][1],
    )


def _beside(source: Path) -> dict[str, int]:
    """What ``dit_config.json`` says that shapes cannot: the heads, and the same sizes again."""
    path = source.parent / "dit_config.json"
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is not JSON; mend or remove it") from error
    known = {field.name for field in dataclasses.fields(DiTConfig)} | {"patch_size", "text_len"}
    for name in found:
        if name not in known:
            raise CheckpointError(f"{path}: unknown key '{name}'{nearest(name, known)}")
    heads = found.get("num_heads")
    return {"num_heads": heads} if isinstance(heads, int) else {}
