"""The built-in model, from a storyboard to pixels that show it."""

from pathlib import Path

import numpy as np
import pytest

from holo_lite import ModelOptions, Options, Pipeline
from holo_lite.evaluation.cuts import find_cuts
from holo_lite.evaluation.marks import mark
from holo_lite.evaluation.reading import Reader
from holo_lite.events import FrameDone
from holo_lite.text.windows import PromptTokenizer, read_prompt
from holo_lite.tiny.demo import SCENE, asked, storyboard
from holo_lite.tiny.model import tiny_model
from holo_lite.tiny.words import storyboard as in_words
from holo_lite.tiny.world import random_scene
from holo_lite.weights.manifest import read_manifest

MOST_BYTES = 15e6
SCENES = 4


def made(scene, board, out, seed):
    """Marks of the clip the built-in model makes."""
    run = Pipeline.load(options=ModelOptions(device="cpu")).generate(
        board, out, Options(frames=scene.frames, seed=seed)
    )
    frames = np.stack([event.pixels.numpy() for event in run if isinstance(event, FrameDone)])
    reader = Reader.of(*frames.shape[1:3])
    readings = [reader.read(frames[span.start : span.stop]) for span in scene.spans]
    return mark(scene, find_cuts(frames), readings)


@pytest.fixture(scope="module")
def marks(tmp_path_factory):
    """The demo, and scenes of combinations that were held out of training.

    So few films are far from the shares that `evaluate` finds in many; a model that ignores captions has none.
    """
    folder = tmp_path_factory.mktemp("films")
    scenes = [random_scene(np.random.default_rng(seed), held_out=True, latents=9) for seed in range(SCENES)]
    boards = [(SCENE, storyboard()), *((scene, in_words(scene)) for scene in scenes)]
    return [made(scene, board, folder / f"{seed}.mp4", seed) for seed, (scene, board) in enumerate(boards)]


def share(marks, score):
    hits, of = (sum(getattr(one[score], name) for one in marks) for name in ("hits", "of"))
    return hits / of


@pytest.mark.parametrize(
    ("score", "least"),
    [("cuts", 0.6), ("setting", 0.8), ("framing", 0.8), ("motion", 0.8), ("adherence", 0.8), ("identity", 0.7)],
)
def test_films_show_what_their_storyboards_asked_for(marks, score, least):
    assert share(marks, score) >= least


def test_it_is_small_and_has_the_projects_licence():
    assert sum(path.stat().st_size for path in tiny_model().rglob("*") if path.is_file()) <= MOST_BYTES
    assert "Apache-2.0, as holo-lite is" in read_manifest(tiny_model()).licence


def test_the_demo_is_in_words_the_model_knows():
    tokenizer = PromptTokenizer(tiny_model() / "tokenizer.json")
    assert 2 not in read_prompt(storyboard().prompt, tokenizer).ids
    assert len(asked(storyboard())) == 1 + storyboard().shot_count


def test_the_weights_come_with_the_package():
    root = Path(__file__).parents[2]
    patterns = ["weights/*", "weights/*/*"]
    found = {path for pattern in patterns for path in (root / "holo_lite" / "tiny").glob(pattern)}
    assert {path for path in tiny_model().rglob("*") if path.is_file()} <= found
    assert '"holo_lite.tiny" = ["weights/*", "weights/*/*"]' in (root / "pyproject.toml").read_text(
        encoding="utf-8"
    )


def test_it_can_be_quantized_further(run, tmp_path):
    assert run("quantize", tiny_model(), tmp_path / "int8", "--scheme", "int8").code == 0
    before, after = (read_manifest(folder).components for folder in (tiny_model(), tmp_path / "int8"))
    assert {role: component.config for role, component in after.items()} == {
        role: component.config for role, component in before.items()
    }
    assert {tensor.scheme for tensor in after["high_noise"].tensors.values()} == {"plain", "int8"}
