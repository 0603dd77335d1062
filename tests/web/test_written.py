"""The page asks a language model: its storyboard becomes the draft, and nothing it says is more than data."""

import json
import threading

import pytest
from chat_server import Said, chat_server, said
from fake_renderer import FakeRenderer
from guard import wait_until
from page_stage import COOKIE, HOST, TOKEN, FakePlanning
from starlette.testclient import TestClient

from holo_lite.preflight.check import check_storyboard
from holo_lite.progress import Note
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.web.guard import Guard
from holo_lite.web.routes import Routes
from holo_lite.web.workspace import Workspace
from holo_lite.web.written import WritingProgress
from holo_lite.writing.endpoint import Endpoint
from holo_lite.writing.events import AnswerGrew, Connecting, StoryboardWritten, TryJudged, TryStarted

CAPTIONS = ["Wide shot of [character1] on the rocks.", "Close-up of [character1]. <script>alert(1)</script>"]
GOOD = json.dumps(
    {
        "title": "Dark",
        "global": "A lighthouse at night. [character1] is a man in a yellow coat.",
        "shots": [{"caption": each, "seconds": 5} for each in CAPTIONS],
    }
)
BOARD = Storyboard("A wall.", (Shot("one"),))
ASKED = {"idea": "a lighthouse keeper loses the light", "shots": 2, "seconds": 10}


@pytest.fixture
def open_page(tmp_path):
    spaces = []

    def of(chat):
        endpoint = Endpoint(chat.url, key="sk-secret") if chat is not None else None
        spaces.append(Workspace(tmp_path, endpoint=endpoint, renderer=FakeRenderer))
        spaces[-1]._planning = FakePlanning()  # type: ignore[assignment]
        client = TestClient(Guard(Routes(spaces[-1]).app(), [HOST], TOKEN, COOKIE), base_url=f"http://{HOST}")
        client.cookies.set(COOKIE, TOKEN)
        client.headers["X-Holo"] = "1"
        return spaces[-1], client

    yield of
    for space in spaces:
        space.close()


def test_what_is_written_becomes_the_draft_and_can_be_taken_back(open_page):
    with chat_server(said(GOOD)) as chat:
        workspace, client = open_page(chat)
        assert workspace.snapshot()["setup"]["writing"] == {"endpoint": chat.url}
        assert "secret" not in json.dumps(workspace.snapshot())
        answer = client.post("/api/write", json=ASKED).json()
    board = answer["board"]
    assert answer["writing"] == workspace.snapshot()["writing"]
    assert answer["writing"]["over"]
    assert [shot["caption"] for shot in board["shots"]] == CAPTIONS
    assert board["title"] == "Dark"
    assert client.post("/api/board", json={"op": "undo"}).json()["scene"] == ""


def test_what_goes_wrong_is_one_line_and_the_draft_stays(open_page):
    with chat_server(said("no")) as chat:
        workspace, client = open_page(chat)
        rev = workspace.board()["rev"]
        for asked in (ASKED, {**ASKED, "idea": 3}, {**ASKED, "shots": "many"}, {**ASKED, "seconds": -1}, {}):
            answer = client.post("/api/write", json=asked)
            assert answer.status_code == 422, asked
            assert "\n" not in answer.json()["error"]
        assert workspace.board()["rev"] == rev


def test_without_an_endpoint_the_page_says_how_to_name_one(open_page):
    workspace, client = open_page(None)
    assert workspace.snapshot()["setup"]["writing"] is None
    assert "--endpoint" in client.post("/api/write", json=ASKED).json()["error"]


def test_a_page_cannot_say_where_to_send_it_and_asks_once_at_a_time(open_page):
    stall = threading.Event()
    with chat_server(Said(stall=stall)) as chat:
        workspace, client = open_page(chat)
        answers = []
        asked = {**ASKED, "endpoint": "http://evil.test/v1", "key": "x", "llm": "other"}
        first = threading.Thread(target=lambda: answers.append(client.post("/api/write", json=asked)))
        first.start()
        wait_until(lambda: chat.questions)
        assert "already" in client.post("/api/write", json=ASKED).json()["error"]
        workspace._written.cancel()  # as the end of the server does
        first.join()
        stall.set()
    assert answers[0].status_code == 422
    assert chat.questions[0]["model"] == "tiny-writer"


def test_what_was_found_is_told_and_what_remains_is_not_told_twice():
    told = []
    progress = WritingProgress(told.append)
    events = [
        Connecting("somewhere"),
        TryStarted(1, 3, "llm"),
        *[AnswerGrew("x" * 150)] * 4,
        TryJudged(1, ("a", "b" * 999)),
        TryStarted(2, 3, "llm"),
        TryJudged(2, ("c",)),
        Note("it hung up"),
        StoryboardWritten(BOARD, check_storyboard(BOARD), ("c",)),
    ]
    for event in events:
        progress.take(event)
    progress.end()
    assert [each["characters"] for each in told[:3]] == [0, 300, 600], "not every piece is told"
    lines = [(each["word"], each["number"], each["text"]) for each in told[-1]["lines"]]
    cut = "b" * 299 + "…"
    assert lines == [("found", 1, "a"), ("found", 1, cut), ("note", 2, "it hung up"), ("remains", 2, "c")]
    assert [each["over"] for each in told[-2:]] == [False, True]
