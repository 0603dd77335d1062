"""A workspace whose renderer and planner render and plan nothing, behind the real guard and routes."""

import pytest
from fake_renderer import FakeRenderer
from starlette.testclient import TestClient

from holo_lite.web.guard import Guard
from holo_lite.web.planning import EMPTY
from holo_lite.web.routes import Routes
from holo_lite.web.workspace import Workspace

HOST, TOKEN, COOKIE = "127.0.0.1:8088", "t" * 43, "holo-lite-8088"
SCENE = "[character1] is a red circle. The wall is blue. This scene contains 2 shots."


class FakePlanning:
    """Says of every plan that it is being made."""

    def __init__(self):
        self.asked, self.emptied = [], []

    def ask(self, rev, order, *, emptied):
        self.asked.append(order)
        self.emptied.append(emptied)
        return {**EMPTY, "rev": rev, "state": "working"}

    def forget(self, rev, why):
        return {**EMPTY, "rev": rev, "why": why}

    def close(self):
        self.asked.append(None)


@pytest.fixture
def renderers():
    return []


@pytest.fixture
def workspace(tmp_path, renderers):
    def start(hear):
        renderers.append(FakeRenderer(hear))
        return renderers[-1]

    found = Workspace(tmp_path / "films" if (tmp_path / "films").is_dir() else tmp_path, renderer=start)
    found._planning = FakePlanning()  # type: ignore[assignment]
    yield found
    found.close()


@pytest.fixture
def app(workspace):
    return Guard(Routes(workspace).app(), [HOST, "localhost:8088"], TOKEN, COOKIE)


@pytest.fixture
def client(app):
    found = TestClient(app, base_url=f"http://{HOST}", follow_redirects=False)
    found.cookies.set(COOKIE, TOKEN)
    found.headers["X-Holo"] = "1"
    return found


@pytest.fixture
def post(client):
    def post(path, **said):
        return client.post(path, json=said)

    return post


@pytest.fixture
def written(post):
    """A draft of two shots that can be made; its shots' ids."""
    board = post("/api/board", op="scene", text=SCENE).json()
    for shot in board["shots"][2:]:
        post("/api/board", op="remove", shot=shot["id"])
    first, second = (shot["id"] for shot in board["shots"][:2])
    post("/api/board", op="caption", shot=first, text="Medium shot of [character1].")
    post("/api/board", op="caption", shot=second, text="Close-up of [character1].")
    for name, value in {"width": 64, "height": 64, "steps": 4, "seed": 5}.items():
        post("/api/board", op="option", name=name, value=value)
    return first, second
