"""What a page asks over HTTP, right and wrong; nothing it says becomes a path."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from page_stage import SCENE, app, client, post, renderers, workspace, written  # noqa: F401 - fixtures
from PIL import Image

from holo_lite.film.video import VideoWriter
from holo_lite.story.files import load_storyboard
from holo_lite.web.listeners import Listeners, event
from holo_lite.web.uploads import LARGEST


def picture(tmp_path, kind="PNG", colour=(200, 30, 30)):
    path = tmp_path / f"picture.{kind.lower()}"
    Image.new("RGB", (8, 6), colour).save(path, format=kind)
    return path.read_bytes()


def upload(client, content, name="keeper.png", kind="image/png"):
    return client.post("/api/uploads", params={"name": name}, content=content, headers={"content-type": kind})


def film(path, frames=9):
    with VideoWriter(path, width=32, height=32, fps=15) as writer:
        for index in range(frames):
            writer.add(np.full((32, 32, 3), 20 * index, np.uint8))
    return path


@pytest.mark.usefixtures("written")
def test_a_draft_is_written_saved_and_opened_again(client, post, tmp_path):
    saved = post("/api/save", name="lighthouse").json()
    assert saved["file"] == {"id": "lighthouse.toml", "name": "lighthouse.toml"}
    assert not saved["changed"]
    board = load_storyboard(tmp_path / "lighthouse.toml")
    assert (board.scene, board.frames, board.steps) == (SCENE, 97, 4)
    assert client.get("/api/board.toml").text == (tmp_path / "lighthouse.toml").read_text(encoding="utf-8")
    post("/api/board", op="new")
    (file,) = client.get("/api/files").json()
    again = post("/api/open", file=file["id"]).json()
    assert [shot["caption"] for shot in again["shots"]] == [shot["caption"] for shot in saved["shots"]]
    assert [shot["latents"] for shot in again["shots"]] == [shot["latents"] for shot in saved["shots"]]
    assert again["settings"] == saved["settings"]
    assert not again["changed"]


@pytest.mark.usefixtures("written")
def test_a_file_that_somebody_wrote_by_hand_is_not_written_over_unasked(client, post, tmp_path):
    path = tmp_path / "mine.toml"
    text = f'# my notes\nglobal = "{SCENE}"\n[[shot]]\ncaption = "A fox."\n'
    path.write_text(text, encoding="utf-8")
    assert post("/api/save", name="mine").status_code == 409
    (file,) = client.get("/api/files").json()
    post("/api/open", file=file["id"])
    post("/api/board", op="title", text="changed")
    answer = post("/api/save")
    assert (answer.status_code, answer.json()["exists"]) == (409, True)
    assert path.read_text(encoding="utf-8") == text
    assert post("/api/save", overwrite=True).status_code == 200
    assert load_storyboard(path).title == "changed"


@pytest.mark.parametrize(
    "name", ["../out", "a/b", "a\\b", ".hidden", "C:x", "x" * 300, "a\nb", "..", "nul\0", "nul"]
)
@pytest.mark.usefixtures("written")
def test_a_storyboard_is_saved_in_the_folder_and_nowhere_else(post, tmp_path, name):
    before = sorted(tmp_path.parent.rglob("*.toml"))
    answer = post("/api/save", name=name)
    assert answer.status_code == 422
    assert "\n" not in answer.json()["error"]
    assert sorted(tmp_path.parent.rglob("*.toml")) == before


def test_what_is_wrong_with_a_draft_is_seen_beside_its_shot_and_does_not_stop_editing(post, workspace):
    post("/api/board", op="new")
    look = workspace.snapshot()["look"]
    assert "scene" in look["error"]
    assert [shot["first"] for shot in look["shots"]] == [0, 49, 97, 145, 193]
    board = post("/api/board", op="scene", text=SCENE).json()
    for shot in board["shots"]:
        post("/api/board", op="caption", shot=shot["id"], text=f"Medium shot of [character9] in {shot['id']}.")
    look = workspace.snapshot()["look"]
    assert look["error"] is None
    assert look["tokens"]["total"] > look["tokens"]["shared"] > 0
    assert all(shot["tokens"] > 0 for shot in look["shots"])
    assert any("character9" in text for text in look["shots"][0]["findings"])
    assert any("2 shots" in each["text"] for each in look["findings"])


@pytest.mark.usefixtures("written")
def test_a_job_carries_the_draft_and_is_told_to_the_process(post, renderers, tmp_path):
    answer = post("/api/jobs", kind="full")
    assert answer.status_code == 201
    job = answer.json()
    assert (job["state"], job["frames"], job["width"]) == ("running", 97, 64)
    order = renderers[0].orders[job["id"]]
    assert Path(order["out"]).parent == tmp_path
    board = load_storyboard(order["storyboard"])
    assert board.shot_captions() == ["Medium shot of [character1].", "Close-up of [character1]."]
    assert (board.frames, board.cuts) == (97, (49,))
    assert (order["options"]["seed"], order["latents"], order["draft"]) == (5, True, False)
    second = post("/api/jobs", kind="full").json()
    assert second["file"] != job["file"]
    post("/api/board", op="title", text="Aux")  # no name for a file on Windows
    assert post("/api/jobs", kind="full").json()["file"] == "film-aux.mp4"


@pytest.mark.usefixtures("written")
def test_while_a_film_is_made_the_next_is_planned_as_if_its_memory_were_free(post, workspace, renderers):
    emptied = workspace._planning.emptied
    assert set(emptied) == {False}
    job = post("/api/jobs", kind="full").json()["id"]
    post("/api/board", op="option", name="steps", value=5)
    assert emptied[-1] is True
    renderers[0].finish(job)
    post("/api/board", op="option", name="steps", value=6)
    assert emptied[-1] is False


@pytest.mark.usefixtures("written")
def test_drafts_and_seeds_are_marked_as_such(post, renderers):
    post("/api/queue", held=True)
    post("/api/board", op="option", name="width", value=832)
    post("/api/board", op="option", name="height", value=480)
    post("/api/board", op="option", name="steps", value=40)
    draft, seeds = post("/api/jobs", kind="draft").json(), post("/api/jobs", kind="seeds", count=3).json()
    assert (draft["width"], draft["height"], draft["steps"]) == (416, 240, 10)
    assert (seeds["width"], seeds["height"], seeds["steps"]) == (832, 480, 10)
    post("/api/queue", held=False)
    assert renderers[0].orders[draft["id"]]["draft"]
    renderers[0].finish(draft["id"])
    assert list(renderers[0].orders[seeds["id"]]["seeds"]) == [5, 6, 7]
    assert [each["seed"] for each in seeds["seeds"]] == [5, 6, 7]


def test_a_draft_that_cannot_be_made_is_refused_before_it_waits(post, written, workspace):
    post("/api/board", op="caption", shot=written[0], text="")
    answer = post("/api/jobs", kind="full")
    assert answer.status_code == 422
    assert "shot 1" in answer.json()["error"]
    post("/api/board", op="caption", shot=written[0], text="A fox.")
    post("/api/board", op="option", name="width", value=33)
    assert "33" in post("/api/jobs", kind="draft").json()["error"]
    assert workspace.queue.records() == []


def test_pictures_are_kept_as_they_are_shown_and_go_into_the_order(client, post, written, renderers, tmp_path):
    content = picture(tmp_path)
    given = upload(client, content, name="..\\../keeper.png").json()
    assert given["name"] == "keeper.png"
    answer = client.get(given["url"])
    assert (answer.content, answer.headers["content-type"]) == (content, "image/png")
    post("/api/board", op="picture", shot=written[1], upload=given["id"])
    post("/api/board", op="reference_add", upload=given["id"], caption="The keeper.")
    job = post("/api/jobs", kind="full").json()
    order = renderers[0].orders[job["id"]]
    board = load_storyboard(order["storyboard"])
    assert Path(board.shots[1].image).read_bytes() == content
    assert board.references[0].caption == "The keeper."


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "image/png"),
        (b"GIF89a" + b"\0" * 50, "image/png"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "image/svg+xml"),
        (b"RIFF\0\0\0\0WAVE", "image/webp"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(client, content, kind):
    answer = upload(client, content, kind=kind)
    assert answer.status_code == 422
    assert "PNG" in answer.json()["error"]


def test_a_picture_of_100_mb_is_refused_and_nothing_of_it_stays(client, tmp_path):
    def pieces():
        for _ in range(LARGEST // 2**20 + 36):
            yield b"\x89PNG\r\n\x1a\n" * 2**17

    answer = upload(client, pieces())
    assert answer.status_code == 422
    assert "64 MB" in answer.json()["error"]
    assert list(tmp_path.rglob("*.png")) == []


@pytest.mark.parametrize("name", ["../token", "..%2f..%2ftoken", "token", "a" * 32, "%2e%2e/token", "%00"])
def test_no_name_that_a_page_says_becomes_a_path(client, name):
    for path in ("/uploads/{}", "/jobs/{}/sheet", "/jobs/x/{}", "/gallery/{}/video", "/gallery/x/{}", "/static/{}"):
        assert client.get(path.format(name)).status_code in {400, 404, 422}


def test_videos_are_played_in_ranges_and_downloaded_by_their_name(client, workspace, tmp_path):
    path = film(tmp_path / "old one.mp4")
    workspace.glance()
    (video,) = workspace.snapshot()["gallery"]
    assert (video["name"], video["frames"], video["ours"]) == ("old one.mp4", 9, False)
    whole = client.get(video["url"])
    assert whole.content == path.read_bytes()
    part = client.get(video["url"], headers={"range": "bytes=10-29"})
    assert (part.status_code, part.content) == (206, path.read_bytes()[10:30])
    assert client.get(video["url"], headers={"range": f"bytes={10**9}-"}).status_code == 416
    assert client.get(video["poster"]).headers["content-type"] == "image/jpeg"
    named = client.get(video["url"] + "&download").headers["content-disposition"]
    assert "old%20one.mp4" in named


def test_a_deleted_video_is_in_the_systems_trash(post, workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    path = film(tmp_path / "old.mp4")
    neighbour = tmp_path / "old.png"
    neighbour.write_bytes(b"not ours")
    workspace.glance()
    (video,) = workspace.snapshot()["gallery"]
    assert post(f"/api/gallery/{video['id']}/delete").status_code == 200
    assert not path.exists()
    assert neighbour.exists()
    workspace.glance()
    assert workspace.snapshot()["gallery"] == []
    assert post(f"/api/gallery/{video['id']}/delete").status_code == 422


def test_a_damaged_video_and_a_half_written_one_are_no_videos(workspace, tmp_path):
    (tmp_path / "torn.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    (tmp_path / ".scene.123-4.part").write_bytes(b"x")
    (tmp_path / "empty.mp4").write_bytes(b"")
    workspace.glance()
    assert workspace.snapshot()["gallery"] == []


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/api/board", b"[]", 422),
        ("/api/board", b"{", 422),
        ("/api/board", b"[" * 100_000, 422),
        ("/api/board", b"\xff\xfe", 422),
        ("/api/board", b'{"op": "scene", "text": "' + b"a" * 2**21 + b'"}', 422),
        ("/api/jobs", b'{"kind": "sing"}', 422),
        ("/api/jobs", b'{"kind": "retake", "video": "../x", "shots": [{"number": 1}]}', 422),
        ("/api/open", b'{"file": "/etc/passwd"}', 422),
        ("/api/open", b'{"video": 3}', 422),
        ("/api/open", b'{"text": "global = 3", "name": 5}', 422),
        ("/api/jobs/none/cancel", b"{}", 200),
        ("/api/jobs/none/sing", b"{}", 404),
        ("/api/nothing", b"{}", 404),
    ],
)
def test_what_makes_no_sense_is_one_line_and_changes_nothing(client, workspace, path, content, status):
    rev = workspace.board()["rev"]
    answer = client.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status
    if status == 422:
        assert "\n" not in answer.json()["error"]
    assert workspace.board()["rev"] == rev


def test_captions_with_html_stay_text(client, post, written, workspace):
    text = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
    post("/api/board", op="caption", shot=written[0], text=text)
    assert workspace.snapshot()["board"]["shots"][0]["caption"] == text
    assert client.get("/").headers["content-type"].startswith("text/html")
    assert text not in client.get("/").text


def test_a_stream_tells_the_newest_of_each_record_and_never_what_was_before():
    async def told():
        listeners = Listeners()
        listener = listeners.open()
        stream = listener.events(lambda: {"all": 1})
        first = await anext(stream)
        for rev in range(5):
            listeners.tell("board", {"rev": rev})
            listeners.tell("job", {"id": "a", "done": rev})
            listeners.tell("job", {"id": "b", "done": rev})
        found = [await anext(stream) for _ in range(3)]
        listeners.close()
        return first, found, [piece async for piece in stream]

    first, found, rest = asyncio.run(told())
    assert first.startswith(b"retry: ")
    assert first.endswith(event("snapshot", {"all": 1}))
    assert found == [
        event("board", {"rev": 4}),
        event("job", {"id": "a", "done": 4}),
        event("job", {"id": "b", "done": 4}),
    ]
    assert rest == []


def test_two_hundred_open_streams_leave_the_newest():
    async def opened():
        listeners = Listeners()
        every = [listeners.open() for _ in range(200)]
        return [each.closed for each in every]

    closed = asyncio.run(opened())
    assert closed[0]
    assert not any(closed[-64:])


@pytest.mark.usefixtures("written")
def test_all_that_is_told_is_json(workspace):
    snapshot = workspace.snapshot()
    assert json.loads(json.dumps(snapshot, allow_nan=False)) == json.loads(json.dumps(snapshot))
    assert set(snapshot) == {"boot", "board", "look", "plan", "queue", "jobs", "gallery", "setup", "writing"}
    assert snapshot["plan"]["state"] == "working"


@pytest.mark.usefixtures("written")
def test_the_folder_of_a_restarted_server_has_its_draft_and_its_queue(tmp_path, workspace, post):
    from holo_lite.web.workspace import Workspace

    post("/api/queue", held=True)
    post("/api/jobs", kind="full")
    before = workspace.snapshot()
    after = Workspace(tmp_path).snapshot()
    assert after["boot"] != before["boot"]
    assert after["board"]["shots"] == before["board"]["shots"]
    assert [job["id"] for job in after["jobs"]] == [job["id"] for job in before["jobs"]]
