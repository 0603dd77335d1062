"""Pictures of single shots, out of a film and its sheet, in which every frame is told by its grey."""

import io
from pathlib import Path

import numpy as np
import pytest
from page_stage import app, client, renderers, workspace  # noqa: F401 - fixtures
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from holo_lite.film.contact_sheet import ContactSheet
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


# --- out of a preview ------------------------------------------------------------------------------

SHOTS = [(0, 9), (9, 12), (12, 13)]
SHOWN = {1: 5, 2: 10, 3: 12}  # the frame of each that stands nearest to its middle


@pytest.fixture
def preview(workspace):
    """The address of a preview of a job."""
    path = workspace.queue.folder_of("job") / "preview-0004.png"
    path.parent.mkdir(parents=True)
    sheet = ContactSheet(SHOTS, ["one", "two " * 99, ""], fps=15)
    for frame in range(13):
        sheet.add(frame, np.full((48, 64, 3), 20 + STEP * frame, np.uint8))
    sheet.save(path, "{}")
    return path, "/jobs/job/preview-0004"


@pytest.mark.parametrize(("shot", "frame"), SHOWN.items())
def test_a_shot_of_a_preview_is_a_frame_of_it_whole(client, preview, shot, frame):
    answer = client.get(f"{preview[1]}/{shot}")
    assert frame_of(answer) == frame
    picture = np.asarray(Image.open(io.BytesIO(answer.content)).convert("L"))
    assert picture.shape == (225, 300)
    assert int(picture.max()) - int(picture.min()) <= 1, "nothing of what stands around it"


@pytest.mark.parametrize("shot", ["0", "4", "-1", "x", "1/2"])
def test_a_shot_that_no_preview_has_is_not_there(client, preview, shot):
    assert client.get(f"{preview[1]}/{shot}").status_code == 404
    assert client.get("/jobs/job/preview-0005/1").status_code == 404
    assert client.get("/jobs/other/preview-0004/1").status_code == 404


MARKS = [
    "",
    "3",
    "[3]",
    '[["a", [0, 0, 9]]]',
    '[["a", [0, 0, 9, "x"]]]',
    '[["a", [0, 0, 999999, 999999]]]',
    "[" * 9999,
]


@pytest.mark.parametrize("mark", [*MARKS, '[["a", [-5, 0, 4, 4]]]', '[["a", [4, 4, 4, 8]]]'])
def test_a_preview_that_says_nonsense_of_its_shots_shows_none(client, preview, mark):
    said = PngInfo()
    said.add_itxt("holo-lite shots", mark)
    Image.new("RGB", (64, 64)).save(preview[0], pnginfo=said)
    assert client.get(f"{preview[1]}/1").status_code == 404


def test_a_preview_that_was_cut_off_is_one_line(client, preview):
    whole = preview[0].read_bytes()
    preview[0].write_bytes(whole[: len(whole) // 2])
    answer = client.get(f"{preview[1]}/1")
    assert answer.status_code == 422
    assert "\n" not in answer.json()["error"]
