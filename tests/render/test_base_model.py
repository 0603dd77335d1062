"""The base model, Wan 2.2 T2V A14B: the run that diffusers' own pipeline makes, and what it cannot is refused."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from PIL import Image
from safetensors.torch import load_file, save_file
from toy_files import DIT, toy_model
from transformers import UMT5EncoderModel

from holo_lite import ModelOptions, Options, Pipeline, Shot, Storyboard
from holo_lite.config import TEXT_ROWS, WAN22, Defaults
from holo_lite.errors import CheckpointError, SettingsError
from holo_lite.events import GoingOn, LatentsDone, StepDone
from holo_lite.fetch.hub import HubFile
from holo_lite.fetch.wanted import SHARED, WAN, pieces, wanted
from holo_lite.model.clip import Chunks, Clip
from holo_lite.model.layers import TextRows
from holo_lite.model.load import load_expert
from holo_lite.sampling.sampler import Context, Guidance
from holo_lite.sampling.schedule import Schedule
from holo_lite.settings import RunSettings, resolve
from holo_lite.story.shots import ShotLayout
from holo_lite.weights.folder import open_folder

PROMPT = "a man sits in a room at night"
NEGATIVE = "static scene"
SMALL = {"frames": 13, "height": 32, "width": 48, "steps": 6, "seed": 3, "negative": NEGATIVE}
MACHINE = {"attention": "wan", "dtype": "fp32", "device": "cpu", "model": ""}


class AsOurs(FlowMatchEulerDiscreteScheduler):
    """diffusers' Euler scheduler on the line from 1 to 0, which it shifts by itself."""

    def set_timesteps(self, num_inference_steps=None, device=None, **_):
        super().set_timesteps(sigmas=np.linspace(1, 0, num_inference_steps + 1)[:-1], device=device)


def theirs(seed):
    torch.manual_seed(seed)
    found = WanTransformer3DModel(
        num_attention_heads=DIT.num_heads,
        attention_head_dim=DIT.head_dim,
        num_layers=DIT.num_layers,
        ffn_dim=DIT.ffn_dim,
        freq_dim=DIT.freq_dim,
        text_dim=DIT.text_dim,
    )
    for name, weight in found.named_parameters():
        matrix = weight.ndim > 1 and "table" not in name
        weight.data = torch.randn(weight.shape) * (weight[0].numel() ** -0.5 if matrix else 0.3)
        if "norm" in name and name.endswith("weight"):
            weight.data += 1
    return found.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def experts():
    return theirs(1), theirs(2)


@pytest.fixture(scope="module")
def folder(cache, experts, tmp_path_factory):
    """The base model as diffusers keeps it, with the toy's other parts."""
    toy = Path(toy_model(cache))
    found = tmp_path_factory.mktemp("models") / "Wan2.2-T2V-A14B-Diffusers"
    for name, expert in zip(("transformer", "transformer_2"), experts, strict=True):
        expert.save_pretrained(found / name)
        (found / name / "dit_config.json").write_text(json.dumps({"num_heads": DIT.num_heads}))
    for part in ("text_encoder", "vae", "tokenizer.json"):
        (found / part).symlink_to(toy / part)
    return found


@pytest.fixture(scope="module")
def pipeline(folder):
    return Pipeline.load(folder, ModelOptions(device="cpu", dtype="fp32"))


def latents_of(pipeline, options, film=PROMPT):
    (done,) = [
        event for event in pipeline.denoise(pipeline.prepare(film, options)) if isinstance(event, LatentsDone)
    ]
    return done.latents


def embedded(folder, pipeline, text):
    """What transformers' encoder makes of a text: its rows, and zeros behind them."""
    encoder = UMT5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()
    ids = torch.tensor([pipeline.tokenizer.encode(text).ids])
    with torch.no_grad():
        rows = encoder(ids).last_hidden_state[0]
    return torch.cat([rows, rows.new_zeros(TEXT_ROWS - len(rows), rows.shape[1])])[None]


def made_by_diffusers(folder, pipeline, experts, shape, steps, shift, scales):
    """The latents of diffusers' own pipeline."""
    noise = torch.randn((1, *shape), generator=torch.Generator("cpu").manual_seed(3))
    wan = WanPipeline(None, None, None, AsOurs(shift=shift), *experts, boundary_ratio=0.875)
    wan.set_progress_bar_config(disable=True)
    return wan(
        height=SMALL["height"],
        width=SMALL["width"],
        num_frames=SMALL["frames"],
        num_inference_steps=steps,
        guidance_scale=scales[0],
        guidance_scale_2=scales[1],
        latents=noise,
        prompt_embeds=embedded(folder, pipeline, PROMPT),
        negative_prompt_embeds=embedded(folder, pipeline, NEGATIVE),
        output_type="latent",
        return_dict=False,
    )[0][0]


def apart(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("scales", [(4.0, 3.0), (2.0, 2.0), (1.0, 1.0)])
def test_a_run_is_that_of_diffusers_with_the_same_experts(folder, pipeline, experts, scales):
    found, steps = latents_of(pipeline, Options(**SMALL, cfg=scales)), SMALL["steps"]
    expected = made_by_diffusers(folder, pipeline, experts, found.shape, steps, WAN22.shift, scales)
    assert {step.expert for step in Schedule.of(steps, WAN22.shift)} == {"high_noise", "low_noise"}
    assert apart(found, expected) <= 1e-4


FORMS = {  # how the adapters for few steps that people use name a layer
    "lightx2v": "diffusion_model.blocks.{block}.self_attn.q.lora_{side}.weight",
    "diffusers": "transformer.blocks.{block}.attn1.to_q.lora_{letter}.weight",
}


@pytest.mark.parametrize("form", FORMS)
def test_adapters_for_few_steps_run_at_their_own_shift_without_guidance(folder, pipeline, experts, form, tmp_path):
    files, adapted = {}, []
    for seed, (name, expert) in enumerate(zip(("high", "low"), experts, strict=True)):
        generator, tensors, changed = torch.Generator().manual_seed(seed), {}, copy.deepcopy(expert)
        for block in range(DIT.num_layers):
            down, up = (torch.randn(shape, generator=generator) * 0.2 for shape in ((4, DIT.dim), (DIT.dim, 4)))
            for side, letter, factor in (("down", "A", down), ("up", "B", up)):
                tensors[FORMS[form].format(block=block, side=side, letter=letter)] = factor
            changed.blocks[block].attn1.to_q.weight += up @ down
        files[name] = tmp_path / f"wan2.2_t2v_lightning_{name}_noise.safetensors"
        save_file(tensors, files[name])
        adapted.append(changed)
    few = Options(**{**SMALL, "steps": 4}, cfg=1.0, shift=5.0)
    found = latents_of(pipeline.with_lora(files), few)
    expected = made_by_diffusers(folder, pipeline, adapted, found.shape, 4, 5.0, (1.0, 1.0))
    assert apart(found, expected) <= 1e-4
    assert apart(latents_of(pipeline, few), expected) > 1e-2


def test_the_folders_names_tell_the_family_and_what_was_published_is_the_default(folder, pipeline):
    assert open_folder(folder).attention == "wan"
    settings = pipeline.prepare(PROMPT, Options(height=32, width=48)).settings
    assert (settings.frames, settings.steps, settings.fps, settings.shift) == (81, 40, 16.0, 12.0)
    assert (settings.cfg, settings.cfg_low) == (4.0, 3.0)
    assert settings.attention == "wan"
    assert RunSettings.from_json(settings.to_json()) == settings


def test_where_names_do_not_tell_a_person_is_asked(folder, tmp_path):
    nameless = tmp_path / "model"
    nameless.mkdir()
    for name, expert in (("transformer", "high_noise"), ("transformer_2", "low_noise")):
        source = folder / name / "diffusion_pytorch_model.safetensors"
        (nameless / f"{expert}.safetensors").symlink_to(source)
    for part in ("text_encoder", "vae", "tokenizer.json"):
        (nameless / part).symlink_to(folder / part)
    with pytest.raises(CheckpointError, match=r"wan for Wan 2\.2's own"):
        open_folder(nameless)
    assert open_folder(nameless, "wan").attention == "wan"
    assert open_folder(nameless, "wan").defaults == WAN22


def test_captions_are_read_as_one_text_and_tags_are_left_out(pipeline):
    board = Storyboard("a room at night.", (Shot("a man sits."),))
    job = pipeline.prepare(board, Options(**SMALL))
    assert job.prompt.text == "a room at night. a man sits."
    assert job.prompt.windows is None
    raw = "[global caption] a room at night. [per shot caption] a man sits."
    tagged = pipeline.prepare(Storyboard(None, (), raw=raw), Options(**SMALL))
    assert tagged.prompt.text == "a room at night. a man sits."
    assert any("no tags" in note for note in tagged.notes)


def test_pictures_are_refused_in_one_line(pipeline, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (48, 32)).save("man.png")
    film = Storyboard("a room.", (Shot("a man.", image="man.png"),))
    with pytest.raises(SettingsError, match="pictures") as refused:
        pipeline.prepare(film, Options(**SMALL))
    assert "\n" not in str(refused.value)


def test_several_shots_are_heard_each_around_its_middle_and_that_is_said(pipeline):
    board = Storyboard("a room at night.", (Shot("a man sits."), Shot("a woman walks.")))
    options = Options(**{**SMALL, "frames": 29}, cuts=(13,))
    job = pipeline.prepare(board, options)
    assert job.prompt.text == "a room at night. a man sits. a woman walks."
    ids = [
        pipeline.tokenizer.encode(text).ids[:-1] for text in ("a room at night.", "a man sits.", "a woman walks.")
    ]
    edges = [sum(map(len, ids[:n])) for n in range(4)]
    assert job.prompt.relay == ((edges[1], edges[2]), (edges[2], edges[3]))
    assert any("cuts are soft" in note for note in job.notes)
    other = Storyboard("a room at night.", (Shot("a man sits."), Shot("a woman runs.")))
    first, second = latents_of(pipeline, options, board), latents_of(pipeline, options, other)
    assert not torch.equal(first, second)
    alone = pipeline.prepare(
        Storyboard("a room at night.", (Shot("a man sits. a woman walks."),)), options_of_one()
    )
    assert alone.prompt.relay is None


def options_of_one():
    return Options(**{**SMALL, "frames": 29})


def test_a_long_clip_is_made_and_noted(pipeline):
    notes = pipeline.prepare(PROMPT, Options(**{**SMALL, "frames": 85})).notes
    assert any("81 frames" in note for note in notes)
    assert not any("81 frames" in note for note in pipeline.prepare(PROMPT, Options(**SMALL)).notes)


def test_guidance_is_that_of_each_steps_expert():
    schedule = Schedule.of(8, 5.0)
    row = Context(torch.zeros(1))
    steering = Guidance.of([row, row], 4.0, 1.0, 1.0)
    assert [steering.at(step, schedule).scale for step in schedule] == [
        4.0 if step.expert == "high_noise" else 1.0 for step in schedule
    ]
    assert {len(steering.at(step, schedule).contexts) for step in schedule} == {1, 2}
    assert all(Guidance.of([row, row], 4.0, 1.0).at(step, schedule).scale == 4.0 for step in schedule)


def test_one_scale_for_both_is_the_same_record_as_before():
    board = Storyboard("a room.", (Shot("a man."),))
    machine = {**MACHINE, "attention": "full"}
    (one, _), (two, _) = (
        resolve(board, Options(frames=9, cfg=cfg), Defaults(), **machine) for cfg in (3.0, (3.0, 3.0))
    )
    assert one == two
    assert (one.cfg_low, one.shift) == (None, 5.0)
    other, _ = resolve(board, Options(frames=9, cfg=(1.0, 3.0)), Defaults(), **machine)
    assert other.is_guided
    assert other.options.cfg == (1.0, 3.0)


@pytest.mark.parametrize("cfg", [(0.0, 3.0), (3.0, 500.0), (3.0,), "4,3"])
def test_wrong_scales_are_refused(cfg):
    with pytest.raises(SettingsError, match="cfg"):
        resolve(Storyboard("a.", (Shot("b."),)), Options(frames=9, cfg=cfg), Defaults(), **MACHINE)


def test_a_fetch_brings_all_pieces_of_the_experts_and_what_is_everyones():
    folders = ("high_noise_model", "low_noise_model")
    stem = "diffusion_pytorch_model"
    listed = [f"{folder}/{stem}-0000{n}-of-00003.safetensors" for folder in folders for n in (1, 2, 3)]
    listed += [f"{folder}/{stem}.safetensors.index.json" for folder in folders]
    others = ["high_noise_model/config.json", "assets/high_noise_model.png", "README.md"]
    hub = [HubFile(WAN.name, "c", path, 1, "") for path in (*listed, *others)]
    found = [piece.path for file in wanted("wan") for piece in pieces(file, [each.path for each in hub])]
    assert sorted(found) == sorted([*listed, *(file.path for file in SHARED)])
    assert {file.repository for file in wanted("wan")} == {WAN}


def kept_latents(video):
    return load_file(video.with_name(f"{video.stem}.latents.safetensors"))["latents"]


def test_a_forward_is_that_of_diffusers(folder, experts):
    latents, text, time = torch.randn(16, 4, 4, 6), torch.randn(20, DIT.text_dim), torch.tensor(700.0)
    ours = load_expert(
        folder / "transformer" / "diffusion_pytorch_model.safetensors",
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    with torch.inference_mode():
        expected = experts[0](latents[None], time[None], text[None], return_dict=False)[0][0]
        layout = ShotLayout((0,), 4, 2, 3)
        (found,) = ours(latents, time, [TextRows(ours.embed_text(text))], Clip(layout, "wan", Chunks(7, 5)))
    assert apart(found, expected) <= 1e-5


def test_a_run_that_is_cut_off_goes_on_to_the_same_latents(pipeline, tmp_path):
    options = Options(**SMALL)
    whole = latents_of(pipeline, options)
    events = pipeline.generate(PROMPT, tmp_path / "a.mp4", options, run=tmp_path / "run", keep_run=True)
    next(event for event in events if isinstance(event, StepDone) and event.done == 2)
    events.close()
    seen = list(pipeline.resume(tmp_path / "run", tmp_path / "a.mp4"))
    assert any(isinstance(event, GoingOn) for event in seen)
    assert torch.equal(kept_latents(tmp_path / "a.mp4"), whole)


def test_a_shot_is_made_again_and_the_others_stay(pipeline, tmp_path):
    board = Storyboard("a room at night.", (Shot("a man sits."), Shot("a woman walks.")))
    options = Options(**{**SMALL, "frames": 29}, cuts=(13,))
    list(pipeline.generate(board, tmp_path / "a.mp4", options))
    list(pipeline.retake(tmp_path / "a.mp4", {2: "a woman runs."}, tmp_path / "b.mp4"))
    before, after = kept_latents(tmp_path / "a.mp4"), kept_latents(tmp_path / "b.mp4")
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4:], after[:, 4:])


def test_a_story_is_not_continued(pipeline, tmp_path):
    list(pipeline.generate(PROMPT, tmp_path / "a.mp4", Options(**SMALL)))
    with pytest.raises(SettingsError, match="continues no video"):
        pipeline.extend(tmp_path / "a.mp4", "a woman walks", tmp_path / "b.mp4")


def test_check_counts_the_text_that_is_read(run, folder, tmp_path):
    board = tmp_path / "one.toml"
    board.write_text('global = "a room."\nframes = 13\n[[shot]]\ncaption = "a man sits."\n')
    outcome = run("check", board, "--model", folder, "--json")
    report = json.loads(outcome.out)
    assert report["tokens"]["total"] == len(Pipeline.load(folder).tokenizer.encode("a room. a man sits.").ids)
