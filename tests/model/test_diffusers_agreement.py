"""The network against diffusers' own: same weights under other names, same velocity.

diffusers knows only dense attention over the whole clip, which is the ``full`` variant without windows.
"""

import json
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file

from holo_lite.model.clip import Chunks, Clip
from holo_lite.model.layers import TextRows
from holo_lite.model.load import load_expert
from holo_lite.story.shots import ShotLayout
from holo_lite.weights.names import own_names

REAL = json.loads((Path(__file__).parents[1] / "checkpoints" / "dit_14b.json").read_text())
CPU = torch.device("cpu")
ROWS, TEXT_DIM = 20, 24


def random_theirs(head_dim):
    torch.manual_seed(3)
    sizes = {"num_layers": 3, "ffn_dim": 80, "freq_dim": 32, "text_dim": TEXT_DIM}
    theirs = WanTransformer3DModel(num_attention_heads=2, attention_head_dim=head_dim, **sizes)
    for name, weight in theirs.named_parameters():
        matrix = weight.ndim > 1 and "table" not in name
        weight.data = torch.randn(weight.shape) * (weight[0].numel() ** -0.5 if matrix else 0.3)
        if "norm" in name and name.endswith("weight"):
            weight.data += 1
    return theirs.requires_grad_(False).eval()


@pytest.mark.parametrize("head_dim", [16, 22, 24])
@pytest.mark.parametrize("timestep", [999.0, 417.0, 3.0])
def test_our_network_computes_what_diffusers_computes(tmp_path, head_dim, timestep):
    theirs = random_theirs(head_dim)
    save_file(theirs.state_dict(), tmp_path / "expert.safetensors")
    (tmp_path / "dit_config.json").write_text('{"num_heads": 2}')
    ours = load_expert(tmp_path / "expert.safetensors", dtype=torch.float32, device=CPU)
    layout = ShotLayout((0, 2, 3), 5, 3, 4)
    latents, context = torch.randn(16, 5, 6, 8), torch.randn(ROWS, TEXT_DIM)
    with torch.inference_mode():
        (expected,) = theirs(latents[None], torch.tensor([timestep]), context[None], return_dict=False)[0]
        text = TextRows(ours.embed_text(context))
        (found,) = ours(latents, torch.tensor(timestep), [text], Clip(layout, "full", Chunks(17, 23)))
    assert float((found - expected).norm() / expected.norm()) < 2e-5


def test_diffusers_names_and_shapes_at_full_size_are_the_released_ones():
    with torch.device("meta"):
        theirs = WanTransformer3DModel().state_dict()
    own = own_names(theirs)
    assert {own[name]: list(tensor.shape) for name, tensor in theirs.items()} == REAL
