"""What trains holo-tiny computes what the runtime computes, and can be cut off."""

import dataclasses
import itertools
import time

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanRMS_norm
from guard import HANGS
from hypothesis import given, settings, strategies as st
from torch import nn

from holo_lite.config import DiTConfig
from holo_lite.model.clip import Clip
from holo_lite.model.dit import WanDiT
from holo_lite.model.layers import TextRows
from holo_lite.story.shots import ShotLayout
from holo_lite.text.windows import PromptTokenizer, read_prompt
from holo_lite.tiny.drawing import draw
from holo_lite.tiny.words import storyboard, token_id
from holo_lite.tiny.world import COLOURS, SHAPES, Trait, random_scene
from training.assemble import tokenizer
from training.dit import Lessons, choose, noise_shares
from training.forward import Text, begin, sight_of, text_bias, text_sight, velocity
from training.latents import LENGTHS, Clips, share_out
from training.loop import Part, train
from training.muon import orthogonal
from training.recipes import RECIPES
from training.stress import stress_of
from training.text import tag_loss
from training.vae import FastNorm, Stage, VaeRecipe, decode, new_vae, repaint, snippet, start_of

CONFIG = DiTConfig(dim=24, num_heads=2, ffn_dim=32, num_layers=2, text_dim=16, freq_dim=8)
WIDTH, HEIGHT = 32, 16


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "tokenizer.json"
    tokenizer().save(str(path))
    return PromptTokenizer(path)


@pytest.fixture(scope="module")
def expert():
    torch.manual_seed(0)
    model = WanDiT(CONFIG)
    begin(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), prompted=st.lists(st.booleans(), min_size=1, max_size=3))
def test_a_batch_learns_the_function_the_runtime_runs(words, expert, seed, prompted):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    latents = int(rng.integers(9, 14))
    scenes = [random_scene(rng, held_out=False, latents=latents) for _ in prompted]
    layouts = [ShotLayout.from_frames(scene.frames, scene.cuts, HEIGHT, WIDTH) for scene in scenes]
    prompts = [
        read_prompt(storyboard(scene).prompt if told else "", words)
        for scene, told in zip(scenes, prompted, strict=True)
    ]
    rows = torch.zeros(len(scenes), 512, CONFIG.text_dim)
    for row, prompt in zip(rows, prompts, strict=True):
        row[: len(prompt.ids)] = torch.randn(len(prompt.ids), CONFIG.text_dim)
    length = max(len(prompt.ids) for prompt in prompts) + 1
    bias = [
        text_bias(text_sight(prompt, layout.shots), layout, length)
        for prompt, layout in zip(prompts, layouts, strict=True)
    ]
    noisy = torch.randn(len(scenes), 16, latents, HEIGHT // 8, WIDTH // 8)
    times = torch.rand(len(scenes)).mul(1000).bfloat16().float()
    with torch.no_grad():
        text = Text(rows[:, :length], torch.stack(bias)[:, None])
        together = velocity(expert, noisy, times, text, sight_of(layouts, CONFIG.head_dim))
    for index, (prompt, layout) in enumerate(zip(prompts, layouts, strict=True)):
        windows = prompt.windows
        seen = windows and tuple(torch.tensor(windows.rows(shot)) for shot in range(layout.shots))
        with torch.no_grad():
            texts = [TextRows(expert.embed_text(rows[index]), seen)]
            (alone,) = expert(noisy[index], times[index], texts, Clip(layout))
        torch.testing.assert_close(together[index], alone, atol=2e-5, rtol=2e-4)


def test_no_caption_of_the_world_has_an_unknown_word(words):
    rng = np.random.default_rng(0)
    for held_out in itertools.islice(itertools.cycle((True, False)), 200):
        assert 2 not in read_prompt(storyboard(random_scene(rng, held_out=held_out)).prompt, words).ids


class Knowing:
    """An encoder that writes colour and shape of the character at each tag, as one hot, into its rows."""

    def __init__(self, scenes, ids, swapped=False):
        self.scenes, self.ids, self.swapped = scenes, ids, swapped
        self.tell = nn.Identity()

    def rows(self, prompts):
        rows = torch.zeros(len(prompts), max(len(prompt.ids) for prompt in prompts), len(COLOURS) + len(SHAPES))
        for row, (prompt, scene) in enumerate(zip(prompts, self.scenes, strict=True)):
            for column, token in enumerate(prompt.ids):
                if token in self.ids:
                    who = scene.characters[self.ids.index(token) ^ self.swapped]
                    rows[row, column, COLOURS.index(who.colour)] = 50
                    rows[row, column, len(COLOURS) + SHAPES.index(who.shape)] = 50
        return rows


def test_the_text_encoders_lesson_asks_at_each_tag_for_the_character_it_names(words):
    rng = np.random.default_rng(1)
    drawn = (random_scene(rng, held_out=False) for _ in range(40))
    scenes = [scene for scene in drawn if len(scene.characters) == 2][:8]
    prompts = [read_prompt(storyboard(scene).prompt, words) for scene in scenes]
    ids = [token_id("character1"), token_id("character2")]
    assert tag_loss(Knowing(scenes, ids), prompts, scenes) < 1e-6
    assert tag_loss(Knowing(scenes, ids, swapped=True), prompts, scenes) > 50


def test_boxes_cover_the_characters_and_not_the_whole_picture():
    rng = np.random.default_rng(2)
    for _ in range(10):
        scene = random_scene(rng, held_out=False)
        stress = stress_of(scene, 64, 112, 4.0, 12.0)
        boxes = stress > 1
        frames = [0, *range(3, scene.frames, 4)]  # one video frame of each latent frame
        drawn, bare = (draw(one) for one in (scene, dataclasses.replace(scene, acts=unpeopled(scene))))
        people = (drawn[frames] != bare[frames]).any(-1).reshape(len(frames), 8, 8, 14, 8).mean((2, 4)) > 0.4
        assert boxes.shape == people.shape
        assert (boxes >= people).all()
        assert boxes.mean() < 0.8


def test_what_a_spot_changes_counts_most():
    rng = np.random.default_rng(3)
    for _ in range(10):
        scene = random_scene(rng, held_out=False)
        frames = [0, *range(3, scene.frames, 4)]
        with_spots, without = (draw(dressed(scene, spotted)) for spotted in (True, False))
        changed = (with_spots[frames] != without[frames]).any(-1).reshape(len(frames), 8, 8, 14, 8).mean(
            (2, 4)
        ) > 0.3
        stress = stress_of(scene, 64, 112, 4.0, 12.0)
        assert (stress[changed] == 12).all()
        assert (stress == 12).mean() < 0.35


def dressed(scene, spotted):
    trait = Trait(pale=False, spotted=spotted)
    people = tuple(dataclasses.replace(one, trait=trait) for one in scene.characters)
    return dataclasses.replace(scene, characters=people)


def test_some_shots_are_clearer_in_a_share_of_the_clips_and_never_all():
    rng = np.random.default_rng(4)
    layout = ShotLayout.from_frames(33, (9, 21), 64, 112)
    drawn = torch.stack([noise_shares(layout, 0.5, rng) for _ in range(400)])
    assert torch.all(noise_shares(layout, 0.0, rng) == 1)
    assert torch.all((drawn >= 0) & (drawn <= 1)), "no more noise than is said"
    assert torch.all((drawn == 1).any(1)), "some shot has all of it"
    per_shot = drawn[:, [0, 3, 6]]
    assert torch.equal(per_shot[:, list(layout.shot_of_latent_frame)], drawn), "a shot is clear as a whole"
    clear = (drawn < 1).any(1).float().mean()
    assert 0.25 < clear < 0.5, "half of the clips, less those in which every shot happened to be whole"


def test_a_batch_has_as_many_clips_with_two_characters_as_asked():
    rng = np.random.default_rng(5)
    scenes = [random_scene(rng, held_out=False) for _ in range(40)]
    for pairs in (0.0, 0.75, 1.0):
        two = [len(scenes[index].characters) == 2 for index in choose(scenes, 400, pairs, rng)]
        assert abs(sum(two) / 400 - pairs) < 0.08


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_snippet_that_is_to_have_a_cut_has_one_and_lies_in_its_clip(seed):
    rng = np.random.default_rng(seed)
    stage = Stage("cut", frames=9, steps=1, batch=1, crop=None, muon=0.0, adam=0.0, at_cut=1.0)
    scene = random_scene(rng, held_out=False)
    start = start_of(scene, stage, rng)
    assert start % 4 == 0
    assert 0 <= start <= scene.frames - 9
    assert any(start < cut < start + 9 for cut in scene.cuts)


def test_repainting_gives_every_colour_another_and_the_same_everywhere():
    rng = np.random.default_rng(6)
    frames = rng.choice(rng.random((5, 3)), size=(3, 8, 8))
    painted = repaint(frames, rng)
    assert painted.min() >= 0
    assert painted.max() <= 1
    pairs = {(tuple(a), tuple(b)) for a, b in zip(frames.reshape(-1, 3), painted.reshape(-1, 3), strict=True)}
    assert len(pairs) == 5
    assert all(np.abs(np.subtract(a, b)).max() > 1e-3 for a, b in pairs)


def test_the_smaller_recipe_makes_the_same_architecture():
    full, small = RECIPES["full"], RECIPES["small"]
    assert small.dit.config == full.dit.config
    assert small.vae.base_dim == full.vae.base_dim
    assert small.dit.steps < full.dit.steps


def test_clips_are_shared_out_as_they_are_shown():
    shares = 0.4, 0.25, 0.15, 0.1, 0.1
    counts = share_out(1000, shares)
    assert tuple(counts) == LENGTHS
    assert all(abs(count - 1000 * share) <= 32 for count, share in zip(counts.values(), shares, strict=True))
    assert all(count % 64 == 0 for count in counts.values())


def test_clips_set_aside_are_not_learnt_from():
    scenes = tuple(random_scene(np.random.default_rng(number), held_out=False) for number in range(6))
    clips = {length: Clips(torch.arange(6.0), scenes) for length in LENGTHS}
    told = {length: tuple(range(6)) for length in LENGTHS}
    learnt, unseen = Lessons(clips, told, None).aside(2)
    assert learnt.clips[9].latents.tolist() == [0, 1, 2, 3]
    assert learnt.told[9] == (0, 1, 2, 3)
    assert len(learnt.clips[11].scenes) == 6
    assert unseen.clips[9].latents.tolist() == [4, 5]
    assert unseen.told[9] == (4, 5)
    assert unseen.clips[9].scenes == scenes[4:]
    assert set(unseen.clips) == {9}


def unpeopled(scene):
    return tuple(dataclasses.replace(act, cast=()) for act in scene.acts)


def test_the_fast_norm_is_diffusers_norm():
    slow = WanRMS_norm(6, images=False)
    slow.gamma.data = torch.randn_like(slow.gamma)
    x = torch.randn(2, 6, 3, 4, 5)
    torch.testing.assert_close(FastNorm(slow)(x), slow(x))


def test_a_fresh_vae_has_no_memory_and_repeats_a_still_picture():
    vae = new_vae(VaeRecipe(base_dim=4))
    stage = Stage("still", frames=1, steps=1, batch=1, crop=16, muon=0.0, adam=0.0)
    still = snippet(np.random.default_rng(0), stage)[0].expand(-1, 9, -1, -1)
    with torch.no_grad():
        z = vae.encode(still[None]).latent_dist.mean
        frames = decode(vae, z)[0]
    torch.testing.assert_close(z[:, :, 0], z[:, :, 2])
    torch.testing.assert_close(frames, frames[:, :1].expand_as(frames))


@pytest.mark.parametrize("shape", [(8, 8), (4, 9), (12, 5)])
def test_orthogonalised_momentum_has_singular_values_near_one(shape):
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(0))))
    assert values.max() < 1.3
    assert values.min() > 0.3


def learn(folder, steps, parts):
    """Fit a line, in so many parts."""
    for last in parts:
        torch.manual_seed(0)
        module = nn.Linear(3, 1)
        taken = itertools.count()

        def step(_, rng, module=module, taken=taken, last=last):
            if next(taken) == last:
                raise KeyboardInterrupt
            x = torch.from_numpy(rng.normal(size=(8, 3))).float()
            return {"loss": (module(x) - x.sum(1, keepdim=True)).square().mean()}

        adam = {"adam": torch.optim.Adam(module.parameters(), 0.1)}
        part = Part(folder, time.monotonic() + HANGS)
        try:
            done = train("line", module, adam, step, steps=steps, rate=lambda p: 1 - p, average=0.9, part=part)
        except KeyboardInterrupt:
            continue
    return done


def test_a_training_cut_off_and_gone_on_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("training.loop.SAVE_SECONDS", 0.0)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = learn(tmp_path / "a", 30, [99])
    pieces = learn(tmp_path / "b", 30, [7, 11, 99])
    torch.testing.assert_close(pieces.weight, whole.weight, rtol=0, atol=0)
    assert abs(whole.weight.detach() - 1).max() < 0.2


def test_a_part_whose_time_is_over_takes_no_step(tmp_path):
    module = nn.Linear(1, 1)
    part = Part(tmp_path, time.monotonic())
    assert (
        train(
            "x", module, {}, lambda *_: pytest.fail("a step was taken"), steps=1, rate=float, average=0.9, part=part
        )
        is None
    )
