"""Pictures of single shots, out of a film in which every frame is told by its grey."""

import io
from pathlib import Path

import numpy as np
import pytest
from page_stage import app, client, renderers, workspace  # noqa: F401 - fixtures
from PIL import Image

from holo_lite.film.video import VideoWriter
from holo_lite.settings import SETTINGS

RECORD = Path(__file__).parents[1] / "records" / "v2" / "settings-retake.json"
STEP = 4  # of grey, from frame to frame; a codec keeps plain frames to about one


@pytest.fixture
def video(workspace, tmp_path):
    """A film with the settings of a record, and what the gallery says of it."""
    text = RECORD.read_text(encoding="utf-8")
    frames = SETTINGS.read(text).shown.shot_frames[-1][1]
    with VideoWriter(tmp_path / "grey.mp4", width=64, height=48, fps=15, metadata=text) as writer:
        for frame in range(frames):
            writer.add(np.full((48, 64, 3), 20 + STEP * frame, np.uint8))
    workspace.glance()
    (found,) = workspace.snapshot()["gallery"]
    assert found["frames"] == frames
    return found


def frame_of(answer):
    """Which frame a picture shows."""
    assert answer.headers["content-type"] == "image/jpeg"
    grey = np.asarray(Image.open(io.BytesIO(answer.content)).convert("L")).mean()
    return round((grey - 20) / STEP)


def test_every_shot_has_a_picture_of_its_middle(client, video):
    assert len(video["shots"]) > 2
    for shot in video["shots"]:
        assert frame_of(client.get(shot["still"])) == (shot["first"] + shot["end"]) // 2
    assert frame_of(client.get(video["poster"])) == 0


@pytest.mark.parametrize("shot", ["0", "99", "-1", "1/../2", "", "x"])
def test_a_shot_that_is_not_there_has_no_picture(client, video, shot):
    assert client.get(f"/gallery/{video['id']}/shot-{shot}").status_code == 404


def test_a_picture_is_drawn_once(client, video, tmp_path):
    first = client.get(video["shots"][1]["still"]).content
    (tmp_path / "grey.mp4").write_bytes(b"")
    assert client.get(video["shots"][1]["still"]).content == first
