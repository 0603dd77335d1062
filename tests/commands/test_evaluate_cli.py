"""`holo-lite evaluate` from outside: table, JSON line, picture, and what it says of mistakes."""

import json
from pathlib import Path

import pytest
from PIL import Image
from tokenizers import Tokenizer, models

from holo_lite.evaluation import run as gate
from holo_lite.evaluation.marks import SCORES
from holo_lite.evaluation.report import DIRECTING_TARGETS, TARGETS
from holo_lite.evaluation.run import scene_of, unknown_words
from holo_lite.evaluation.seeds import DEVELOPMENT, reporting_seeds
from holo_lite.evaluation.studio import Studio
from holo_lite.render.pipeline import Pipeline
from holo_lite.settings import Options
from holo_lite.tiny.words import VOCABULARY, storyboard
from holo_lite.tiny.world import is_held_out

SMALL = ("--height", 32, "--width", 64, "--steps", 1, "--cfg", 1)


@pytest.fixture
def evaluated(run, toy_copy):
    """Two storyboards of a model that does not know the world, beside itself with its windows open."""
    words = ("--model", toy_copy, "--baseline", toy_copy, "--ablate", "windows", "--save", "kept/all.json")
    return run("evaluate", "--storyboards", 2, *SMALL, *words)


def test_it_prints_a_table_and_a_line_of_json_and_draws_a_picture(evaluated, tmp_path, toy_copy):
    assert evaluated.code == 0
    *table, line = evaluated.out.splitlines()
    assert table[0].split() == ["score", "of", "model", "baseline", "ratio"]
    assert [row[:19].strip() for row in table[1:]][-3:] == ["PSNR, dB", "SSIM", "relative error of t"]
    assert all(len(row) <= 100 for row in table)
    found = json.loads(line)
    assert (found["storyboards"], found["height"], found["width"], found["steps"]) == (2, 32, 64, 1)
    assert (found["model"], found["ablate"]) == (str(toy_copy), "windows")
    assert set(found["scores"]) <= {*SCORES}
    assert found["scores"]["cuts"]["of"] == 2
    assert found["scores"]["adherence"]["of"] == sum(len(scene_of(0, index).acts) for index in range(2))
    assert 0 < found["likeness"]["latents"]["value"] < 1, "an ablated model is another, from the same noise"
    with Image.open(tmp_path / "evaluation.png") as picture:
        assert picture.width > 3 * 4 * 144

    kept = json.loads((tmp_path / "kept" / "all.json").read_text())
    assert [each["index"] for each in kept["each"]] == [0, 1]
    assert [each["cuts"] for each in kept["each"]] == [[*scene_of(0, index).cuts] for index in range(2)]
    hits = sum(each["model"]["marks"]["framing"][0] for each in kept["each"])
    assert found["scores"]["framing"]["value"] == pytest.approx(hits / found["scores"]["framing"]["of"], abs=1e-4)


def test_shots_made_again_have_a_table_of_their_own(run, toy_copy, tmp_path):
    outcome = run("evaluate", "--retake", "--storyboards", 1, *SMALL, "--kappa", 0.25, "--model", toy_copy)
    assert outcome.code == 0
    head, *_, line = outcome.out.splitlines()
    assert head.split() == ["score", "of", "model", "nothing", "given", "ratio"]
    found = json.loads(line)
    assert (found["directing"], found["kappa"], found["storyboards"]) == ("retake", 0.25, 1)
    assert found["scores"]["adherence"]["of"] == found["baseline_scores"]["adherence"]["of"] == 1, "one new shot"
    shares = {name: score["value"] for name, score in found["scores"].items()}
    below = {name for name, least in DIRECTING_TARGETS["retake"].items() if shares.get(name, 1) < least}
    assert {*found["below_target"]} == below
    assert (tmp_path / "evaluation.png").is_file()


def test_films_with_pictures_given_have_their_own_tables_and_targets(run, toy_copy):
    """An untrained model misses every target, that of the first frame included."""
    outcome = run("evaluate", "--reference", "--pictures", 1, "--storyboards", 1, *SMALL, "--model", toy_copy)
    assert outcome.code == 0
    found = json.loads(outcome.out.splitlines()[-1])
    assert (found["directing"], found["pictures"], found["kappa"], found["apart"]) == ("reference", 1, 0.5, None)
    assert found["below_target"] == DIRECTING_TARGETS["reference, 1 picture"]
    outcome = run("evaluate", "--first-frame", "--storyboards", 2, *SMALL, "--model", toy_copy, "--save", "a.json")
    *table, line = outcome.out.splitlines()
    found = json.loads(line)
    assert (found["directing"], found["pictures"]) == ("first frame", None)
    assert found["below_target"] == DIRECTING_TARGETS["first frame"]
    assert found["above_target"] == {"apart": 3.0}
    apart = found["apart"]
    assert 3 < apart["low"] <= apart["value"] <= apart["high"] < 255
    shown = "{value:.2f} ({low:.2f} to {high:.2f})".format_map(apart)
    assert f"first frame from its picture, of 255  {shown}" in table
    assert table[-1] == f"first frame from its picture, of 255: {apart['value']:.2f} is above its target, 3"
    each = [one["apart"] for one in json.loads(Path("a.json").read_text(encoding="utf-8"))["each"]]
    assert sum(each) / 2 == pytest.approx(apart["value"], abs=1e-3)


def test_cut_off_it_shows_what_was_scored_and_overwrites_no_picture(run, toy_copy, tmp_path, monkeypatch):
    (tmp_path / "evaluation.png").write_bytes(b"mine")
    made = Studio.film

    def film(self, job):
        if job.settings.seed == 5:
            raise KeyboardInterrupt
        return made(self, job)

    monkeypatch.setattr(Studio, "film", film)
    monkeypatch.setattr(gate, "unknown_words", lambda _: ["cross", "red"])
    outcome = run("evaluate", "--storyboards", 3, *SMALL, "--model", toy_copy, "--seed", 4)
    assert outcome.code == 130
    assert json.loads(outcome.out.splitlines()[-1])["storyboards"] == 1
    assert outcome.out.splitlines()[0].split() == ["score", "of", "model"]
    note = f"note: {toy_copy} does not know the drawn world (it has no word for 'cross', 'red'): its scores"
    assert note + " mean nothing" in outcome.err.splitlines()
    assert (tmp_path / "evaluation.png").read_bytes() == b"mine"
    assert (tmp_path / "evaluation-2.png").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ablate", "windows", "--devices", "cpu,cpu"], "--ablate: changes the model on one device alone"),
        (["--ablate", "window"], "--ablate 'window': give one of windows, representatives, double"),
        (["--storyboards", "0"], "--storyboards 0: give a number from 1 to 10000"),
        (["--height", "30"], "height 30: must be a multiple of 16"),
        (["--height", "64", "--width", "64"], "64×64: two characters must fit side by side"),
        (["--out", "."], ".: is a folder; name a file in it"),
        (["--model", "nowhere"], "nowhere: no such folder"),
        (["--baseline", "nowhere"], "nowhere: no such folder"),
        (["--cfg", "0"], "cfg 0.0: give a number from 1"),
        (["--retake", "--extend"], "--retake and --extend are two evaluations; give one of them"),
        (["--retake", "--chain", "3"], "--chain: is for --extend; give both, or leave it out"),
        (["--extend", "--chain", "0"], "--chain 0: give a number from 1 to 10"),
        (["--reference", "--pictures", "3"], "--pictures 3: give 1 or 2"),
        (["--first-frame", "--pictures", "1"], "--pictures: is for --reference; give both, or leave it out"),
        (["--reference", "--first-frame"], "--reference and --first-frame are two evaluations; give one of them"),
        (["--extend", "--baseline", "x"], "--baseline: what is given is compared with the same model; leave it"),
        (["--alone"], "--alone: is for --retake, --extend, --reference and --first-frame; leave it out"),
        (["--retake", "--kappa", "2"], "kappa 2.0: give a number from 0 to 1"),
    ],
)
def test_mistakes_are_one_line(run, toy_copy, words, said):
    outcome = run("evaluate", *(() if "--model" in words else ("--model", toy_copy)), *words)
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"error: {said}")


def test_a_tokenizer_knows_the_world_if_it_has_all_its_words(tmp_path, umt5_tokenizer_path):
    words = {word: index for index, word in enumerate(VOCABULARY)}
    Tokenizer(models.WordLevel(words, unk_token="a")).save(str(tmp_path / "tokenizer.json"))
    assert unknown_words(tmp_path / "tokenizer.json") == []
    assert "character1" in unknown_words(umt5_tokenizer_path)


def test_storyboards_are_held_out_and_the_same_every_time():
    scenes = [scene_of(3, index) for index in range(40)]
    assert scenes == [scene_of(3, index) for index in range(40)]
    assert len({*scenes}) == 40
    assert {*scenes}.isdisjoint(scene_of(4, index) for index in range(40))
    assert all(is_held_out(character, scene.wall) for scene in scenes for character in scene.characters)


@pytest.mark.parametrize("ablation", [None, "windows", "representatives", "double"])
def test_an_ablation_changes_the_film(toy_copy, ablation):
    board, options = storyboard(scene_of(0, 0)), Options(height=32, width=64, steps=2, cfg=2.0, seed=9)
    films = []
    for studio in (Studio(Pipeline.load(toy_copy)), Studio(Pipeline.load(toy_copy), ablation)):
        (job,) = studio.prepare([board], [options])
        films.append(studio.film(job))
    assert bool((films[0].latents == films[1].latents).all()) == (ablation is None)


def test_published_scores_come_from_storyboards_nobody_developed_with():
    """Three seeds of the weights, and others for other weights."""
    seeds = reporting_seeds("one")
    assert seeds == reporting_seeds("one") != reporting_seeds("other")
    assert len({*seeds}) == 3
    assert not {*seeds} & {*DEVELOPMENT}


def test_seeds_are_pooled_in_turn(run, toy_copy, tmp_path):
    outcome = run(
        "evaluate", "--storyboards", 3, *SMALL, "--model", toy_copy, "--seed", "4,7", "--save", "all.json"
    )
    kept = json.loads((tmp_path / "all.json").read_text())
    assert outcome.code == 0
    assert kept["seeds"] == [4, 7]
    assert [each["seed"] for each in kept["each"]] == [4, 7, 5]
    wanted = [scene_of(4, 0), scene_of(7, 0), scene_of(4, 1)]
    assert [each["cuts"] for each in kept["each"]] == [[*scene.cuts] for scene in wanted]


def test_fresh_storyboards_are_those_of_the_weights(run, toy_copy):
    outcome = run("evaluate", "--storyboards", 1, *SMALL, "--model", toy_copy, "--fresh")
    found = json.loads(outcome.out.splitlines()[-1])
    assert found["seeds"] == [*reporting_seeds(Pipeline.load(toy_copy).model.fingerprint)]


def test_what_is_below_its_target_is_said(run, toy_copy):
    """An untrained model misses every target; an ablated one has none."""
    outcome = run("evaluate", "--storyboards", 2, *SMALL, "--model", toy_copy)
    found = json.loads(outcome.out.splitlines()[-1])
    assert found["below_target"]["adherence"] == TARGETS["adherence"]
    assert "adherence: " in outcome.out
    assert "is below its target, 95.0 %" in outcome.out
    ablated = run("evaluate", "--storyboards", 1, *SMALL, "--model", toy_copy, "--ablate", "windows")
    assert json.loads(ablated.out.splitlines()[-1])["below_target"] == {}


def test_a_film_is_what_the_pipeline_makes(toy_copy, tmp_path):
    from holo_lite.events import FrameDone

    pipeline, options = Pipeline.load(toy_copy), Options(height=32, width=64, steps=2, cfg=2.0, seed=9)
    board = storyboard(scene_of(0, 0))
    shown = [e for e in pipeline.generate(board, tmp_path / "a.mp4", options) if isinstance(e, FrameDone)]
    studio = Studio(pipeline)
    (job,) = studio.prepare([board], [options])
    film = studio.film(job)
    assert len(shown) == len(film.frames)
    assert all((event.pixels == frame).all() for event, frame in zip(shown, film.frames, strict=True))
