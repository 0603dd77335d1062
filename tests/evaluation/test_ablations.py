"""What an ablation takes out is taken out, and nothing else: each against the slow oracle without it."""

import dataclasses

import oracle
import pytest
import torch
from hypothesis import given, settings
from small_model import TEXT_DIM, clips, config_of, random_model

from holo_lite.errors import SettingsError
from holo_lite.evaluation.ablations import CLIPS, ablated_guidance, check_ablation
from holo_lite.model.clip import Clip
from holo_lite.model.layers import TextRows
from holo_lite.sampling.sampler import Context, Guidance
from holo_lite.story.shots import ShotLayout

ROWS = 20
TIMESTEP = torch.tensor(903.7)
LAYOUT = ShotLayout((0, 2, 3), 6, 3, 4)
WINDOWS = tuple(torch.arange(6 * shot, 6 * shot + 6) for shot in range(3))


def own_tokens_only(_layout, shot, _own_frame_weight):
    return (shot[:, None] == shot[None, :]).float()


def velocities(clip, windows, **options):
    """The product's with this clip, and the oracle's."""
    model = random_model(config_of())
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(
        (16, clip.layout.latent_frames, 2 * clip.layout.rows, 2 * clip.layout.columns), generator=generator
    )
    context = torch.randn(ROWS, TEXT_DIM, generator=generator)
    with torch.inference_mode():
        (found,) = model(latents, TIMESTEP, [TextRows(model.embed_text(context), windows)], clip)
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    rows = windows and [seen.tolist() for seen in windows]
    args = (latents.double(), TIMESTEP, context.double(), clip.layout, rows)
    return found, oracle.forward(weights, model.config, *args, **{"sparse": True, **options}).float()


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


def ablated(clip, name):
    return CLIPS[name](clip.layout, clip.attention, clip.chunks)


@settings(max_examples=15, deadline=None)
@given(clip=clips())
def test_double_counts_the_own_first_frame_once(clip):
    sparse = clip.attention == "sparse"
    assert error(*velocities(ablated(clip, "double"), None, sparse=sparse, own_frame_weight=1)) < 1e-5


@settings(max_examples=15, deadline=None)
@given(clip=clips())
def test_without_representatives_a_shot_is_alone(clip):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oracle, "self_attention_weights", own_tokens_only)
        assert error(*velocities(ablated(clip, "representatives"), None)) < 1e-5


@pytest.mark.parametrize("name", ["double", "representatives"])
def test_an_ablation_is_noticed(name):
    assert error(*velocities(ablated(Clip(LAYOUT), name), WINDOWS)) > 1e-3
    assert error(*velocities(Clip(LAYOUT), WINDOWS)) < 1e-5


def test_without_windows_every_shot_reads_the_whole_prompt_and_nothing_else_changes():
    guidance = Guidance(Context(torch.ones(3, 2), WINDOWS), Context(torch.zeros(3, 2)), 3.0)
    opened = ablated_guidance(guidance, "windows")
    assert opened == dataclasses.replace(guidance, positive=Context(guidance.positive.rows, None))
    assert CLIPS["windows"] is Clip
    for other in (None, "double", "representatives"):
        assert ablated_guidance(guidance, other) is guidance


def test_an_unknown_ablation_is_refused_with_the_nearest():
    assert check_ablation("double") == "double"
    with pytest.raises(SettingsError, match=r"--ablate 'window': .* did you mean 'windows'\?"):
        check_ablation("window")
