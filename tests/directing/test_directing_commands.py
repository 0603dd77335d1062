"""`retake`, `extend` and `--image` as a person types them, and what is printed to make their videos again."""

import shlex

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from holo_lite.commands.retake import alternating
from holo_lite.errors import SettingsError
from holo_lite.film.video import probe, read_metadata
from holo_lite.runs.kept_latents import latents_path
from holo_lite.settings import RunSettings

BOARD = """
global = "A house by the sea."
frames = 13
height = 16
width = 32
steps = 2
[[shot]]
caption = "a house"
[[shot]]
caption = "a door"
"""
NEXT = """
global = "A house by the sea."
frames = 5
[[shot]]
caption = "a window"
"""


@pytest.fixture
def old(run, toy_copy, tmp_path):
    (tmp_path / "film.toml").write_text(BOARD)
    (tmp_path / "next.toml").write_text(NEXT)
    assert run("generate", "film.toml", "--model", toy_copy, "--out", "old.mp4").code == 0
    return tmp_path / "old.mp4"


def settings_of(video):
    return RunSettings.from_json(read_metadata(video))


def latents(video):
    return load_file(latents_path(video))["latents"]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("--shot 3", {"3": None}),
        ("--shot 3 --caption x", {"3": "x"}),
        ("--shot 1 --shot=3 --caption=x --seed 4", {"1": None, "3": "x"}),
        ("v.mp4 --shot 1 --caption 'a b' --steps 3 --shot 2 --caption c", {"1": "a b", "2": "c"}),
    ],
)
def test_a_caption_belongs_to_the_shot_before_it(typed, found):
    assert alternating(shlex.split(typed)) == found


@pytest.mark.parametrize("typed", ["--caption x", "--caption x --shot 1", "--shot 1 --caption x --caption y"])
def test_a_caption_without_a_shot_of_its_own_is_told(typed):
    with pytest.raises(SettingsError, match=r"before any --shot|has two captions"):
        alternating(typed.split())


def test_a_shot_is_made_again_and_inspect_prints_how(run, toy_copy, old, tmp_path):
    words = ("retake", old, "--model", toy_copy, "--shot", "2", "--caption", "a red door", "--out")
    assert run(*words, "new.mp4").code == 0
    assert settings_of(tmp_path / "new.mp4").new_shots == {2: (5, 13)}
    printed = run("inspect", "new.mp4").out
    line = next(line for line in printed.splitlines() if "holo-lite retake" in line)
    command = shlex.split(line.removeprefix("#").strip())[1:]
    command[command.index("FOLDER")] = str(toy_copy)
    (tmp_path / "new.mp4").rename(tmp_path / "first.mp4")
    latents_path(tmp_path / "new.mp4").rename(tmp_path / "first.latents.safetensors")
    (tmp_path / "new.png").unlink()
    assert run(*command, "--out", "again.mp4").code == 0
    assert torch.equal(latents(tmp_path / "again.mp4"), latents(tmp_path / "first.mp4"))
    assert "done already" in run(*command, "--out", "again.mp4").err


def test_seeds_draw_the_new_shots_only(run, toy_copy, old, tmp_path):
    done = run("retake", old, "--model", toy_copy, "--shot", "2", "--seeds", "2", "--out", "new.mp4")
    assert done.code == 0
    assert "--shot 2 --out new.mp4 --seed 2" in done.err
    with Image.open(tmp_path / "new-seeds.png") as one:
        width = one.width
    assert run("generate", "film.toml", "--model", toy_copy, "--seeds", "2", "--out", "all.mp4").code == 0
    with Image.open(tmp_path / "all-seeds.png") as both:
        assert width < both.width


def test_a_story_goes_on_and_is_joined(run, toy_copy, old, tmp_path):
    words = ("extend", old, "next.toml", "--model", toy_copy, "--join", "--out", "part.mp4")
    done = run(*words)
    assert done.code == 0
    assert "joined" in done.err
    assert probe(tmp_path / "part.mp4").frames == 13 + 8
    assert "done already" in run(*words).err
    assert "[[reference]]" in run("inspect", "part.mp4").out
    assert "2 shots that it was made with" in run("inspect", "part.latents.safetensors").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("retake", "old.mp4", "--shot", "3"), "shot 3: old.mp4 has shots 1 to 2"),
        (("retake", "old.mp4"), "no shot is named"),
        (("retake", "old.mp4", "--shot", "1,2"), "give the number of one shot, and --shot again for another"),
        (("retake", "old.png", "--shot", "1"), "name a video that holo-lite made"),
        (("retake", "old.mp4", "--shot", "1", "--height", "32"), "height: stays that of old.mp4"),
        (("retake", "film.toml", "--shot", "1"), "is not a video"),
        (("extend", "old.mp4", "next.toml", "--remember", "a"), "give numbers of shots such as 1,4"),
        (("extend", "old.mp4", "next.toml", "--remember", "9"), "shot 9: old.mp4 has shots 1 to 2"),
        (("generate", "film.toml", "--image", "x"), "write the number of a shot and a file"),
        (("generate", "film.toml", "--image", "1=a.png", "--image", "1=b.png"), "shot 1 has two pictures"),
        (("generate", "film.toml", "--image", "3=a.png"), "there are 2 shots"),
        (("generate", "film.toml", "--image", "1=none.png"), "none.png: cannot be read"),
    ],
)
def test_what_cannot_be_is_one_line_and_2(run, toy_copy, old, words, said):
    assert old.is_file()
    done = run(*words, "--model", toy_copy)
    assert (done.code, said in done.err) == (2, True), done.err
    assert "Traceback" not in done.err


def test_another_model_than_the_built_in_one_must_be_named(run, old):
    done = run("retake", old, "--shot", "1")
    assert (done.code, "give --model with its folder" in done.err) == (2, True)


def test_what_a_kill_left_out_is_made_from_the_run_that_it_left(run, toy_copy, tmp_path):
    """Killed between a video and its latents: the folder of the run is still there."""
    (tmp_path / "film.toml").write_text(BOARD)
    words = ("generate", "film.toml", "--model", toy_copy, "--keep-run", "--out", "old.mp4")
    assert run(*words).code == 0
    video, kept = (tmp_path / "old.mp4").read_bytes(), latents(tmp_path / "old.mp4")
    assert "done already" in run(*words).err
    latents_path(tmp_path / "old.mp4").unlink()
    assert "only decoding is left" in run(*words).err
    assert (tmp_path / "old.mp4").read_bytes() == video
    assert torch.equal(latents(tmp_path / "old.mp4"), kept)
    latents_path(tmp_path / "old.mp4").unlink()
    assert "done already" in run(*words, "--no-latents").err
