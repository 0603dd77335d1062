"""The shape of a transformer, read off its checkpoint.

HoloCine adds no parameters to Wan 2.2 T2V A14B, so its shape follows from the tensors themselves. Only the
number of heads leaves no trace there: the released models have heads of 128, and a smaller model says
so in a ``dit_config.json`` next to its weights, with eps if it differs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from holo_lite.errors import CheckpointError, nearest
from holo_lite.reading.files import read_text
from holo_lite.reading.trees import parse_json

Attention = Literal["sparse", "full", "wan"]  # HoloCine's two, and the base model, which has no windows of text
ATTENTIONS: tuple[Attention, ...] = get_args(Attention)
Shapes = Mapping[str, tuple[int, ...]]

RELEASED_HEAD_DIM = 128
LATENT_CHANNELS = 16  # of the Wan 2.1 VAE; what an expert takes and gives
PATCH = 2  # latent rows and columns that make one token; one latent frame at a time
OTHER_NETWORKS = {  # tensors that another network has, by how their names begin, and whose they are
    "vace_": "VACE",
    "motion_encoder.": "Wan 2.2 Animate",
    "face_adapter.": "Wan 2.2 Animate",
    "casual_audio_encoder.": "Wan 2.2 S2V",
    "audio_injector.": "Wan 2.2 S2V",
    "control_adapter.": "Fun Camera",
    "ref_conv.": "Fun Control",
    "img_emb.": "Wan 2.1 I2V",
    "double_blocks.": "FLUX or HunyuanVideo",
}
OTHER_CHANNELS = {
    36: "I2V or Fun-InP, which begin from a picture",
    48: "TI2V 5B",
    52: "Fun Control",
}
MOST = {"dim": 2**16, "num_heads": 2**12, "ffn_dim": 2**18, "num_layers": 2**10, "text_dim": 2**16}
TEXT_ROWS = 512  # rows of text that the transformer always gets
FIXED = {"patch_size": [1, PATCH, PATCH], "text_len": TEXT_ROWS}  # the same in every Wan 2.2 T2V model


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

    def __post_init__(self) -> None:
        """Raise `CheckpointError` for sizes that no model has: a network of them would be built first."""
        for name, most in MOST.items():
            if not 0 <= getattr(self, name) <= most:
                raise CheckpointError(f"a transformer whose {name} is {getattr(self, name)} is beyond any computer")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.num_heads


HOLOCINE_14B = DiTConfig(dim=5120, num_heads=40, ffn_dim=13824, num_layers=40)


def dit_config(shapes: Shapes, source: Path) -> DiTConfig:
    """Infer an expert's configuration from its tensors' shapes and a ``dit_config.json`` next to `source`.

    Raises `CheckpointError` when a tensor that decides a size is missing, or the sizes do not fit together.
    """
    if other := other_network(shapes):
        raise CheckpointError(f"{source}: is not a Wan 2.2 T2V A14B expert: {other}")
    try:
        config = _from_shapes(shapes)
    except KeyError as error:
        raise CheckpointError(f"{source}: is not a Wan 2.2 T2V A14B expert: it lacks {error}") from error
    except (ValueError, IndexError) as error:
        raise CheckpointError(
            f"{source}: is not a Wan 2.2 T2V A14B expert: its tensors have other shapes"
        ) from error
    config = _beside(config, source.parent / "dit_config.json")
    if config.num_heads < 1 or config.dim % config.num_heads or config.head_dim % 2:
        raise CheckpointError(
            f"{source}: width {config.dim} does not divide into {config.num_heads or 'the released'} heads; "
            "give num_heads in a dit_config.json next to it"
        )
    if config.freq_dim % 2:
        raise CheckpointError(f"{source}: is not a Wan 2.2 T2V A14B expert: freq_dim {config.freq_dim} is odd")
    return config


def other_network(shapes: Shapes) -> str | None:
    """Say of which other model the tensors are, if they say it themselves: by their names or channels."""
    for begin, whose in OTHER_NETWORKS.items():
        if name := next((name for name in shapes if name.startswith(begin)), None):
            return f"it is of {whose}, with {name}"
    taken = shapes.get("patch_embedding.weight", ())[1:2]
    given = shapes.get("head.head.weight", ())[:1]
    if taken and taken[0] != LATENT_CHANNELS:
        whose = f" ({OTHER_CHANNELS[taken[0]]})" if taken[0] in OTHER_CHANNELS else ""
        return f"it takes {taken[0]} channels, not {LATENT_CHANNELS}{whose}"
    if given and given[0] != LATENT_CHANNELS * PATCH**2:
        return f"it gives {given[0] // PATCH**2} channels, not {LATENT_CHANNELS}"
    return None


def _from_shapes(shapes: Shapes) -> DiTConfig:
    dim, in_dim, *_ = shapes["patch_embedding.weight"]
    blocks = {int(name.split(".")[1]) for name in shapes if name.startswith("blocks.")}
    return DiTConfig(
        dim=dim,
        num_heads=dim // RELEASED_HEAD_DIM if dim % RELEASED_HEAD_DIM == 0 else 0,
        ffn_dim=shapes["blocks.0.ffn.0.weight"][0],
        num_layers=len(blocks),
        in_dim=in_dim,
        out_dim=shapes["head.head.weight"][0] // PATCH**2,
        text_dim=shapes["text_embedding.0.weight"][1],
        freq_dim=shapes["time_embedding.0.weight"][1],
    )


def _beside(config: DiTConfig, path: Path) -> DiTConfig:
    """Take the heads and eps from ``dit_config.json``; the sizes it repeats must be those of the weights."""
    if not path.is_file():
        return config
    try:
        found = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is not JSON ({error}); fix or remove it") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: is not a JSON table; fix or remove it")
    known = {**dataclasses.asdict(config), **FIXED}
    for name, value in found.items():
        if name not in known:
            raise CheckpointError(f"{path}: unknown key {name!a:.80}{nearest(name, known)}")
        if name not in {"num_heads", "eps"} and value != known[name]:
            raise CheckpointError(f"{path}: {name} is {value!r}, but the weights have {known[name]}")
    heads, eps = found.get("num_heads", config.num_heads), found.get("eps", config.eps)
    if "num_heads" in found and (type(heads) is not int or heads < 1):
        raise CheckpointError(f"{path}: num_heads {heads!r}: give a whole number, at least 1")
    if type(eps) is not float or not 0 < eps < 1:
        raise CheckpointError(f"{path}: eps {eps!r}: give a number between 0 and 1")
    return dataclasses.replace(config, num_heads=heads, eps=eps)


Expert = Literal["high_noise", "low_noise"]


# The negative prompt HoloCine and Wan 2.2 were published with.
PUBLISHED_NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，"
    "JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，"
    "手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)


@dataclass(frozen=True)
class Defaults:
    """What a model makes by default. Sizes in pixels, length in frames.

    `cfg` is the guidance scale; where `cfg_low` is the low-noise expert's, `cfg` is the other's. `shift` bends
    the schedule towards high noise.
    """

    frames: int = 241
    height: int = 480
    width: int = 832
    fps: float = 15.0
    steps: int = 50
    cfg: float = 5.0
    negative: str = PUBLISHED_NEGATIVE
    cfg_low: float | None = None
    shift: float = 5.0


# As Wan-AI/Wan2.2-T2V-A14B is published: sample_shift 12, guidance 3 for low noise and 4 for high, 40 steps.
WAN22 = Defaults(frames=81, fps=16.0, steps=40, cfg=4.0, cfg_low=3.0, shift=12.0)


def published(attention: Attention) -> Defaults:
    """What a model of this kind makes by default, where its folder says nothing else."""
    return WAN22 if attention == "wan" else Defaults()
