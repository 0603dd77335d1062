"""The farm over real Ray: two machines of a cluster, one of which dies, and what becomes of their films."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from farming import TINY, cluster_of, write_boards
from guard import HANGS

from holo_lite.errors import FarmError
from holo_lite.farm.driver import Farm
from holo_lite.farm.events import CardLost, ClipBegun, ClipTold
from holo_lite.farm.orders import Wanted, clips_of, opening_request
from holo_lite.farm.ray_cluster import connected
from holo_lite.farm.shared import note_in
from holo_lite.jobs.batch import find_items
from holo_lite.jobs.items import ItemEnded
from holo_lite.settings import Options
from holo_lite.worker.order import Opening

SAID = Options(height=16, width=16, steps=5, cfg=1.0, frames=9)
SUPPORT = Path(__file__).parents[1] / "support"
DIES_AFTER = 2  # steps


@pytest.fixture(scope="module")
def cluster():
    with cluster_of("left", "right") as made:
        yield made


@pytest.fixture(scope="module")
def farmed(cluster, tmp_path_factory):
    """The folder of a farm, all of its events, and the one after which its machine died."""
    folder = tmp_path_factory.mktemp("farm")
    items, out = find_items([write_boards(folder / "boards")], folder / "films"), folder / "films"
    clips = clips_of(items, Wanted(None, Opening(device="cpu"), SAID))
    seen, last = [], None
    with ExitStack() as stack:
        note, ray = stack.enter_context(note_in(out)), stack.enter_context(connected(cluster.address))
        for event in stack.enter_context(closing(Farm(ray, clips, opening_request(clips, note)).run())):
            seen.append(event)
            if last is None and steps_of(event) == DIES_AFTER:
                last = event
                cut_off(cluster, event.place)
    return folder, seen, last


def cut_off(cluster, name):
    """The power of a machine goes off."""
    (machine,) = (node for node in cluster.worker_nodes if node._ray_params.node_name == name)
    cluster.remove_node(machine, allow_graceful=False)


def steps_of(event):
    return event.record["done"] if isinstance(event, ClipTold) and event.record["kind"] == "step" else None


def test_every_video_is_made_although_a_machine_dies_in_the_midst(farmed):
    folder, seen, _ = farmed
    ended = {event.item.video.stem: event.state for event in seen if isinstance(event, ItemEnded)}
    assert ended == {**dict.fromkeys("ab", "done"), "none": "failed"}
    kinds = ("mp4", "png", "latents.safetensors")
    assert {path.name for path in (folder / "films").iterdir()} == {
        f"{name}.{kind}" for name in "ab" for kind in kinds
    }


def test_the_clip_of_a_dead_machine_goes_on_on_another_from_its_last_saved_step(farmed):
    _, seen, last = farmed
    own = [event for event in seen if getattr(event, "item", None) == last.item]
    (lost,) = (event for event in own if isinstance(event, CardLost))
    assert (lost.place, lost.saved >= DIES_AFTER) == (last.place, True)
    assert {event.place for event in own if isinstance(event, ClipBegun)} == {"left", "right"}
    told = [event.record for event in own if isinstance(event, ClipTold)]
    (going_on,) = (record for record in told if record["kind"] == "going_on")
    assert going_on["done"] >= lost.saved
    steps = [steps_of(event) for event in own if steps_of(event)]
    assert len(steps) == len(set(steps)), "no step that was told is made again"


def test_the_second_time_the_command_leaves_all_as_it_is(farmed, cluster, run):
    folder, _, last = farmed
    films = folder / "films"
    before = {path: path.stat().st_mtime_ns for path in films.iterdir()}
    outcome = run("batch", folder / "boards", "--out", films, "--ray", cluster.address, *TINY)
    assert outcome.code == 1, outcome.err
    *lines, total = outcome.out.splitlines()
    assert lines[0] == f"kept        {films}/a.mp4  exists with these settings"
    assert lines[-1].startswith(f"failed      {folder}/boards/none.toml: there are no shots")
    assert total == "2 kept, 1 failed"
    left = "right" if last.place == "left" else "left"
    assert f"{left}: ready (this CPU, cpu)" in outcome.err
    assert {path: path.stat().st_mtime_ns for path in films.iterdir()} == before


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


def test_no_statistics_go_to_rays_makers(cluster):
    from ray._common.usage import usage_lib

    with connected(cluster.address):
        assert not usage_lib.usage_stats_enabled()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_an_address_without_a_cluster_is_one_line(address):
    with pytest.raises(FarmError, match=f"--ray {address}: ") as caught, connected(address):
        pass
    assert "\n" not in str(caught.value)
