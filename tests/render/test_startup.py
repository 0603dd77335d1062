"""What stands before the first step: no library that only comes into play behind it, and nothing taken on trust."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from guard import HANGS

from holo_lite import Options, Pipeline, Storyboard
from holo_lite.film.vae_files import diffusers_names
from holo_lite.film.vae_shapes import Z_DIM, vae_shapes
from holo_lite.schemes.registry import SCHEMES
from holo_lite.text.encoder import _build
from holo_lite.text.encoder_shapes import encoder_shapes, stored_tensors
from holo_lite.text.encoder_sizes import EncoderSizes
from holo_lite.weights.fill import module_shapes, wanted_by

TESTS = Path(__file__).parents[1]
SMALL = Options(frames=5, height=16, width=16, steps=1)
SIZES = EncoderSizes(vocabulary=16, d_model=128, d_ff=256, d_kv=32, heads=8, layers=3, buckets=16)


def test_a_known_prompt_waits_for_no_library_of_other_phases(tmp_path):
    """They take three quarters of the time in which a small model is ready. Nor does the rest of the run."""
    list(Pipeline.load().generate(Storyboard(None, (), raw="a road"), tmp_path / "a.mp4", SMALL))
    script = (
        "import sys\n"
        "from holo_lite import *\n"
        "from holo_lite.events import StepDone\n"
        f"run = Pipeline.load().generate(Storyboard(None, (), raw='a road'), {str(tmp_path / 'b.mp4')!r},\n"
        f"    Options(**{vars(SMALL)!r}))\n"
        "assert any(isinstance(event, StepDone) for event in run)\n"
        "names = ('diffusers', 'transformers', 'bitsandbytes', 'optimum', 'torch._dynamo', 'torch._inductor')\n"
        "print([name for name in names if name in sys.modules])\n"
        "finish(run)\n"
        "print([name for name in names if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=TESTS.parent, capture_output=True, text=True, check=True, timeout=HANGS
    )
    assert done.stdout == "[]\n[]\n"


@pytest.mark.parametrize("width", [4, 32, 96])
def test_a_vae_is_judged_by_the_tensors_of_the_librarys_module(width):
    with torch.device("meta"):
        module = AutoencoderKLWan(base_dim=width, z_dim=Z_DIM)
    assert vae_shapes(width) == module_shapes(module)


def test_the_original_vae_is_renamed_as_by_the_library():
    original = json.loads((TESTS / "checkpoints" / "wan21_vae.json").read_text(encoding="utf-8"))
    names = diffusers_names(original)
    assert names == {
        old: new for new, old in convert_wan_vae_to_diffusers({name: name for name in original}).items()
    }
    assert {*names.values()} == {*vae_shapes(96)}
    assert diffusers_names(names.values()) == {name: name for name in names.values()}


@pytest.mark.parametrize("scheme", [None, *SCHEMES])
def test_a_text_encoder_is_judged_by_the_tensors_of_the_librarys_module(scheme):
    """Packed, too: by the parts of every linear layer that the scheme can hold."""
    schemes = {name: scheme for name in encoder_shapes(SIZES) if scheme}
    module = _build(SIZES, schemes)
    assert stored_tensors(SIZES, schemes) == wanted_by(module)
    if scheme is None:
        assert [*encoder_shapes(SIZES).items()] == [*module_shapes(module).items()], "quantize keeps this order"
