"""Small random experts, layouts and text windows for tests."""

import torch
from hypothesis import strategies as st

from holo_lite.config import DiTConfig
from holo_lite.model.clip import Chunks, Clip
from holo_lite.model.dit import WanDiT
from holo_lite.story.shots import ShotLayout

TEXT_DIM = 24


def config_of(head_dim=16, heads=2, layers=2, ffn_dim=80):
    return DiTConfig(head_dim * heads, heads, ffn_dim, layers, text_dim=TEXT_DIM, freq_dim=32)


def random_model(config, seed=0, dtype=torch.float32):
    """An expert with weights that make every term matter: none of them small against the others."""
    model = WanDiT(config)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        matrix = weight.ndim > 1 and "modulation" not in name
        weight.data = noise * weight[0].numel() ** -0.5 if matrix else 0.3 * noise
        if "norm" in name and name.endswith("weight"):
            weight.data += 1
    return model.to(dtype).requires_grad_(False)


@st.composite
def layouts(draw, most_frames=7):
    """Shots of any length, one-frame shots among them, on small grids, odd ones too."""
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    while sum(lengths) > most_frames:
        lengths.pop()
    lengths = lengths or [most_frames]
    starts = tuple(sum(lengths[:index]) for index in range(len(lengths)))
    return ShotLayout(starts, sum(lengths), draw(st.integers(1, 4)), draw(st.integers(1, 5)))


@st.composite
def clips(draw):
    chunks = Chunks(draw(st.integers(1, 90)), draw(st.integers(1, 90)))
    return Clip(draw(layouts()), draw(st.sampled_from(["sparse", "full"])), chunks)


@st.composite
def window_sets(draw, shots, rows=20):
    """None, or for each shot some of `rows` text rows."""
    if draw(st.booleans()):
        return None
    some = st.sets(st.integers(0, rows - 1), min_size=1)
    return [sorted(draw(some)) for _ in range(shots)]
