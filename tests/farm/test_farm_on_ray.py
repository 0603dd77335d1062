"""The farm over real Ray: two machines of a cluster, one of which dies, and what becomes of their films."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from farming import TINY, cluster_of, write_boards
from guard import HANGS

from holo_lite.errors import FarmError
from holo_lite.farm.events import CardLost, ClipBegun, ClipTold
from holo_lite.farm.ray_cluster import connected
from holo_lite.views.farm import PlainFarm

SUPPORT = Path(__file__).parents[1] / "support"
DIES_AFTER = 2  # steps
STEPS = 100  # of each clip, so that the one of a machine that dies is not done before it is dead


@pytest.fixture(scope="module")
def cluster():
    with cluster_of("left", "right") as made:
        yield made


@pytest.fixture
def seen(cluster, monkeypatch):
    """All events that the command shows; the power of the right machine goes off after two steps of a clip."""
    events, show = [], PlainFarm.show

    def shown(view, event):
        events.append(event)
        show(view, event)
        if steps_of(event) == DIES_AFTER and event.place == "right" and cluster.worker_nodes:
            cluster.remove_node(*cluster.worker_nodes, allow_graceful=False)

    monkeypatch.setattr(PlainFarm, "show", shown)
    return events


def steps_of(event):
    return event.record["done"] if isinstance(event, ClipTold) and event.record["kind"] == "step" else None


def test_a_machine_dies_in_the_midst_and_its_clip_goes_on_on_another(run, cluster, seen, tmp_path):
    boards = write_boards(tmp_path / "boards")
    outcome = run("batch", "boards", "--out", "films", "--ray", cluster.address, *TINY, "--steps", STEPS)
    assert outcome.code == 1, "because of the storyboard that is none"
    first, second, none, total = outcome.out.splitlines()
    assert re.fullmatch(r"done        films/a\.mp4  in \d:\d\d", first)
    assert re.fullmatch(r"done        films/b\.mp4  in \d:\d\d", second)
    assert none.startswith(f"failed      {boards}/none.toml: there are no shots")
    assert total == "2 done, 1 failed"
    kinds = ("mp4", "png", "latents.safetensors")
    assert {path.name for path in Path("films").iterdir()} == {f"{name}.{kind}" for name in "ab" for kind in kinds}
    (lost,) = (event for event in seen if isinstance(event, CardLost) and event.item)
    assert (lost.place, lost.saved >= DIES_AFTER) == ("right", True)
    own = [event for event in seen if getattr(event, "item", None) == lost.item]
    assert [event.place for event in own if isinstance(event, ClipBegun)] == ["right", "left"]
    told = [event.record for event in own if isinstance(event, ClipTold)]
    (going_on,) = (record for record in told if record["kind"] == "going_on")
    assert going_on["done"] >= lost.saved
    steps = [record["done"] for record in told if record["kind"] == "step"]
    assert len(steps) == len(set(steps)), "no step that was told is made again"
    assert f"{lost.item.video}: continuing after step {going_on['done']} of {STEPS}" in outcome.err


def test_a_clip_that_somebody_makes_is_not_made_twice_until_they_are_dead(cluster, tmp_path):
    clip = str(tmp_path / "a.mp4")
    words = [sys.executable, str(SUPPORT / "claiming.py"), cluster.address, clip]
    path = os.pathsep.join(filter(None, map(str, sys.path)))
    other = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})
    try:
        assert other.stdout.readline() == "True\n"
        with connected(cluster.address) as ray:
            assert not ray.claim(clip, "mine")
            assert ray.claim(f"{clip} of mine", "mine"), "another is free"
            other.kill()
            end = time.monotonic() + HANGS
            while not ray.claim(clip, "mine"):
                assert time.monotonic() < end, "what a dead driver claimed is never free"
                time.sleep(0.5)
    finally:
        other.kill()
        other.wait()
        other.stdout.close()


def test_no_statistics_go_to_rays_makers(cluster, monkeypatch):
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    from ray._common.usage import usage_lib

    with connected(cluster.address):
        assert not usage_lib.usage_stats_enabled()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_an_address_without_a_cluster_is_one_line(address):
    with pytest.raises(FarmError, match=f"--ray {address}: ") as caught, connected(address):
        pass
    assert "\n" not in str(caught.value)
