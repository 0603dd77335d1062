"""Films that the nodes make in a stand-in for ComfyUI, with holo-tiny in a process of its own."""

import json
from pathlib import Path

import pytest
import torch
from comfy_graph import Graph
from comfy_stage import SCENE, SHOTS, WATCHED, comfy, graph, ours, quiet, refusal, retake, told  # noqa: F401 - fixtures
from comfy_stand_in import Interrupted

from holo_lite import Options, Pipeline
from holo_lite.film.video_frames import video_frames
from holo_lite.render.sinks import MemorySink


def test_frames_are_those_of_the_command_line_to_the_bit(comfy):
    """Made here first: then its prompt is known, and the process need not bring in what encodes one."""
    sink = MemorySink()
    options = Options(width=32, height=32, steps=4, seed=3, frames=13, cuts=(5,))
    board = f"[global caption] {SCENE} This scene contains 2 shots. [per shot caption] " + SHOTS.replace(
        "\n\n", " [shot cut] "
    )
    for _ in Pipeline.load().generate(board, sink, options):
        pass
    done = Graph(comfy.nodes, graph()).run()["3"]
    frames, video, sheet, film, settings = done.args
    assert frames.dtype == torch.float32
    assert torch.equal((frames * 255).byte(), sink.tensor())  # as ComfyUI makes bytes of them
    assert len(list(video_frames(Path(video.file)))) == 13
    assert Path(video.file) == film.video
    assert sheet.shape[0] == 1
    assert json.loads(settings)["seed"] == 3
    assert [each["subfolder"] for each in done.shown[0].values] == ["holocine"]
    assert comfy.emptied == 2
    values = [value for value, _, _ in comfy.shown]
    assert values == sorted(values)
    assert values[-1] == 1000
    previews = [each for _, _, each in comfy.shown if each is not None]
    assert [(form, size) for form, _, size in previews] == [("JPEG", 512)] * 5, "four steps, and the sheet"
    assert not list((comfy.folder / "temp" / "holocine").glob("*.rgb"))


def test_several_seeds_are_several_films_each_as_alone(comfy):
    many = {**graph(seed=7, seeds=2, preview_every=0), "4": retake(["3", 3])}
    done = Graph(comfy.nodes, many).run()
    bars = [(value, total) for value, total, _ in comfy.shown]
    batch = [value for value, total in bars if total == 2000]
    assert batch == sorted(batch)
    assert batch[-1] == 2000
    assert [each["seed"] for each in told(done["3"])] == [7, 8]
    assert [each.seed for each in done["3"].values[3]] == [7, 8]
    assert len(done["3"].shown[0].values) == 2
    assert len(done["4"].shown) == 2, "a shot of each is made again"
    assert [each["seed"] for each in told(done["4"])] == [8, 9]
    for seed, frames in zip((7, 8), done["3"].values[0], strict=True):
        alone = Graph(comfy.nodes, graph(seed=seed, preview_every=0)).run()["3"].args[0]
        assert torch.equal(frames, alone)


def test_seeds_that_nobody_said_are_counted_from_those_of_the_film(comfy):
    story = {"scene": SCENE, "shots": SHOTS, "frames": 8, "cuts": ""}
    watched = {"preview_every": 0, "name": "film", "seeds": 2}
    more = {
        **graph(seed=2**32 - 1, preview_every=0),
        "4": retake(["3", 3], seeds=2),
        "5": retake(["3", 3], caption="Wide shot of [character1], moving up.", seeds=2),
        "6": {"class_type": "HoloCineStoryboard", "inputs": story},
        "7": {
            "class_type": "HoloCineExtend",
            "inputs": {"film": ["3", 3], "storyboard": ["6", 0], "remember": "1", "seed": -1, **watched},
        },
    }
    done = Graph(comfy.nodes, more).run()
    assert [each["seed"] for each in told(done["4"])] == [0, 1], "the film's would change nothing"
    assert [each["seed"] for each in told(done["5"])] == [2**32 - 1, 0]
    assert [each["seed"] for each in told(done["7"])] == [2**32 - 1, 0]


def test_an_interrupted_batch_goes_on_in_the_film_that_it_was_at(comfy):
    many = graph(steps=8, seed=100, seeds=2)
    first = 8 + 1  # the previews of a film, and its sheet
    comfy.interrupt = lambda: sum(each is not None for _, _, each in comfy.shown) >= first + 3
    with pytest.raises(Interrupted):
        Graph(comfy.nodes, many).run()
    comfy.interrupt = lambda: False
    comfy.shown.clear()
    Graph(comfy.nodes, many).run()
    previews = [value for value, _, each in comfy.shown if each is not None]
    assert len([value for value in previews if value <= 1000]) == 1, "of the first film the sheet alone"
    assert 1 < len([value for value in previews if value > 1000]) <= 6 + 1
    assert not list((comfy.folder / "temp" / "holocine").glob("*.rgb"))


def test_a_shot_is_made_again_with_a_picture_and_the_story_goes_on(comfy):
    image = torch.zeros(2, 40, 50, 3)
    image[:, :, :25, 0] = 1
    (pictures,) = (
        comfy.nodes["HoloCinePicture"].execute(image, "reference", 1, "Close-up of [character1], still.").args
    )
    more = {
        **graph(),
        "4": {
            "class_type": "HoloCineRetake",
            "inputs": {"film": ["3", 3], "shot": 2, "caption": "", "seed": -1, **WATCHED},
        },
        "5": {
            "class_type": "HoloCineExtend",
            "inputs": {"film": ["4", 3], "storyboard": ["6", 0], "remember": "1", "seed": 5, **WATCHED},
        },
        "6": {
            "class_type": "HoloCineStoryboard",
            "inputs": {"scene": SCENE, "shots": SHOTS, "frames": 8, "cuts": "", "pictures": pictures[:1]},
        },
    }
    done = Graph(comfy.nodes, more).run()
    before, again = done["3"].args[0], done["4"].args[0]
    assert before.shape == again.shape
    assert not torch.equal(before, again)
    extended = json.loads(done["5"].args[4])
    assert extended["seed"] == 5
    assert len(extended["frozen"]["shots"]) == 2, "a shot that is remembered, and the picture"
    assert [each.shot for each in pictures] == [None, None]


def test_an_interrupted_run_ends_at_once_and_goes_on(comfy):
    long = graph(steps=20)
    comfy.interrupt = lambda: sum(each is not None for _, _, each in comfy.shown) >= 3
    with pytest.raises(Interrupted):
        Graph(comfy.nodes, long).run()
    comfy.interrupt = lambda: False
    comfy.shown.clear()
    Graph(comfy.nodes, long).run()
    previews = [each for _, _, each in comfy.shown if each is not None]
    assert 1 < len(previews) <= 18


def test_a_process_that_is_killed_is_a_red_line_and_the_next_run_goes_on(comfy):
    session, long = ours(comfy, "sharing").SESSION, graph(steps=10, seed=4, preview_every=0)

    def kill():
        if len(comfy.shown) > 5 and session.process is not None:
            session.process.kill()
        return False

    comfy.interrupt = kill
    said = refusal(comfy, long)
    assert said.startswith("the render process ended")
    assert "\n" not in said
    comfy.interrupt = lambda: False
    assert len(Graph(comfy.nodes, long).run()["3"].args[0]) == 13
