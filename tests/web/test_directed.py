"""What the page does with a finished video: its storyboard opened, a shot again, the story continued."""

import numpy as np
import pytest
from page_stage import SCENE, app, client, post, renderers, workspace, written  # noqa: F401 - fixtures

from holo_lite.config import WAN22, Defaults
from holo_lite.film.video import VideoWriter
from holo_lite.settings import Options, resolve
from holo_lite.story.storyboard import Shot, Storyboard

CAPTIONS = ("Medium shot of [character1].", "Close-up of [character1].")
BOARD = Storyboard(SCENE, tuple(Shot(caption) for caption in CAPTIONS))
TRAITS = {"dtype": "fp32", "device": "cpu", "model": "tiny-abc"}


def video(tmp_path, workspace, name="old.mp4", board=BOARD, defaults=Defaults(), attention="sparse", **said):  # noqa: B008
    options = Options(height=32, width=48, steps=4, **said)
    settings, _ = resolve(board, options, defaults, attention=attention, **TRAITS)
    with VideoWriter(tmp_path / name, width=48, height=32, fps=15, metadata=settings.to_json()) as writer:
        for _ in range(settings.frames):
            writer.add(np.zeros((32, 48, 3), np.uint8))
    workspace.glance()
    return next(each for each in workspace.snapshot()["gallery"] if each["name"] == name)


@pytest.fixture
def old(tmp_path, workspace):
    return video(tmp_path, workspace, frames=25, cuts=(9,), seed=7, cache=(0.1, 0.0))


def test_a_video_says_what_it_is(old):
    assert old["ours"]
    assert [(shot["first"], shot["end"], shot["caption"]) for shot in old["shots"]] == [
        (0, 9, CAPTIONS[0]),
        (9, 25, CAPTIONS[1]),
    ]
    assert ["seed", "7"] in [list(fact) for fact in old["facts"]]


def test_a_video_is_opened_as_the_storyboard_that_made_it(post, old, workspace):
    board = post("/api/open", video=old["id"]).json()
    assert [shot["caption"] for shot in board["shots"]] == [*CAPTIONS]
    assert [shot["latents"] for shot in board["shots"]] == [3, 4]
    settings = board["settings"]
    assert (settings["seed"], settings["steps"], settings["width"], settings["cache"]) == (
        7,
        4,
        48,
        "high=0.1,low=0",
    )
    look = workspace.snapshot()["look"]
    assert look["error"] is None
    assert [shot["first"] for shot in look["shots"]] == [0, 9]


def test_guidance_of_two_experts_is_left_to_the_model(post, tmp_path, workspace):
    board = Storyboard("a room.", (Shot("a man."),))
    found = video(tmp_path, workspace, "wan.mp4", board, WAN22, "wan", frames=9)
    assert post("/api/open", video=found["id"]).json()["settings"]["cfg"] is None


def test_a_shot_is_made_again_with_the_videos_own_settings(post, old, renderers):
    job = post("/api/jobs", kind="retake", video=old["id"], shots=[{"number": 2, "caption": "Wide shot."}]).json()
    assert (job["kind"], job["made"], job["frames"]) == ("retake", {"video": "old.mp4"}, 25)
    order = renderers[0].orders[job["id"]]
    assert order["again"] == {"2": "Wide shot."}
    assert order["video"].endswith("old.mp4")
    assert order["out"].endswith("old-retake.mp4")
    assert order["storyboard"] is None
    assert order["options"]["seed"] is None


@pytest.mark.parametrize(
    "shots", [None, 3, [], [3], [{"number": "2"}], [{"number": 2, "caption": 3}], [{"number": True}]]
)
def test_shots_that_are_none_are_refused_in_one_line(post, old, shots, workspace):
    answer = post("/api/jobs", kind="retake", video=old["id"], shots=shots)
    assert answer.status_code == 422
    assert "\n" not in answer.json()["error"]
    assert workspace.queue.records() == []


@pytest.mark.usefixtures("written")
def test_the_story_goes_on_with_the_storyboard_of_the_page(post, old, renderers):
    job = post("/api/jobs", kind="extend", video=old["id"], remember=[1]).json()
    order = renderers[0].orders[job["id"]]
    assert order["out"].endswith("old-more.mp4")
    assert list(order["remember"]) == [1]
    assert (order["options"]["width"], order["options"]["height"]) == (48, 32)  # those of the video
    assert order["storyboard"].endswith("storyboard.toml")


def test_a_shot_again_is_opened_as_the_job_that_made_the_video(post, old, workspace, renderers, tmp_path):
    job = post("/api/jobs", kind="retake", video=old["id"], shots=[{"number": 1, "caption": None}]).json()
    renderers[0].finish(job["id"])
    found = video(tmp_path, workspace, "old-retake.mp4", frames=25, cuts=(9,))
    again = post("/api/jobs", kind="retake", video=found["id"], shots=[{"number": 1, "caption": None}]).json()
    first, second = (renderers[0].orders[each["id"]]["opening"] for each in (job, again))
    assert first == second


def test_a_strangers_video_is_not_directed(post, tmp_path, workspace):
    with VideoWriter(tmp_path / "holiday.mp4", width=32, height=32, fps=15) as writer:
        writer.add(np.zeros((32, 32, 3), np.uint8))
    workspace.glance()
    (stranger,) = workspace.snapshot()["gallery"]
    for kind, more in (("retake", {"shots": [{"number": 1}]}), ("extend", {})):
        answer = post("/api/jobs", kind=kind, video=stranger["id"], **more)
        assert answer.status_code == 422
        assert "not made by holo-lite" in answer.json()["error"]
    assert post("/api/open", video=stranger["id"]).status_code == 422
