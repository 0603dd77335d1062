"""`batch --ray` where there is no cluster, or no Ray: one line, and nothing is begun."""

import re
import sys
from pathlib import Path

import pytest
from farming import TINY, write_boards

from holo_lite.commands import farming
from holo_lite.commands.shared import OPENING
from holo_lite.errors import SettingsError
from holo_lite.farm.orders import clips_of
from holo_lite.jobs.batch import find_items
from holo_lite.worker.order import ORDER

ROOT = Path(__file__).parents[2]
AS_IT_COMES = {**dict.fromkeys(OPENING, "auto"), "devices": ()}


@pytest.fixture
def boards(tmp_path):
    return write_boards(tmp_path / "boards")


def test_without_ray_one_line_says_what_to_install(run, boards, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "holo_lite.farm.ray_cluster", raising=False)
    outcome = run("batch", boards, "--out", "films", "--ray", "local", *TINY)
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert 'needs the package ray (holo-lite[ray]); type: python -m pip install "ray>=' in line
    assert not (tmp_path / "films").exists()


def test_without_a_cluster_one_line_says_so(run, boards, tmp_path):
    outcome = run("batch", boards, "--out", "films", "--ray", "127.0.0.1:1", *TINY)
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: --ray 127.0.0.1:1: the cluster cannot be reached; begin it with `ray start`")
    assert list((tmp_path / "films").iterdir()) == []


def test_a_cluster_that_was_here_and_is_gone_is_one_line(run, boards, monkeypatch):
    """Ray remembers where it was, and would try for minutes."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    outcome = run("batch", boards, "--out", "films", "--ray", "auto", *TINY)
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: --ray auto: no cluster runs here; begin one with `ray start --head`")
    assert "(127.0.0.1:1: " in line


def test_a_card_cannot_be_named_where_ray_gives_them_out(run, boards):
    outcome = run("batch", boards, "--ray", "local", "--device", "cuda:1", *TINY)
    assert (outcome.code, outcome.out) == (2, "")
    assert "--device cuda:1: Ray gives out the cards; leave it out, or say cpu" in outcome.err


def test_one_clip_on_several_cards_is_no_farm(run, boards):
    outcome = run("batch", boards, "--ray", "local", "--devices", "cpu,cpu", *TINY)
    assert (outcome.code, outcome.out) == (2, "")
    assert "--devices: with --ray each card makes clips of its own; leave it out" in outcome.err


def test_one_module_alone_knows_ray_and_none_brings_it_in_where_it_is_not_asked_for():
    named = re.compile(r"^(import ray\b|from ray\b|from holo_lite\.farm import ray|.*ray_cluster import)", re.M)
    found = {path.name for path in (ROOT / "holo_lite").rglob("*.py") if named.search(top_of(path))}
    assert found == {"ray_cluster.py"}


def top_of(path):
    """What a module does as it is imported."""
    return re.sub(r"^ .*", "", path.read_text("utf-8"), flags=re.M)


def wanted(model=None, **said):
    others = {"loras": {}, "attention": None, "preview": 0, "overwrite": False, "latents": True}
    return farming.wanted(model, **{**AS_IT_COMES, **others, **said})


def test_an_order_names_files_as_every_machine_knows_them(boards, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clips = clips_of(
        find_items([boards.relative_to(tmp_path)], boards.parent),
        wanted(model=tmp_path / "m", profile="mine.toml", loras={"high": ("a.safetensors", 0.5)}, preview=3),
    )
    order = ORDER.of_table(clips.all[0].order)
    assert order.storyboard == f"{boards}/a.txt"
    assert order.out == f"{tmp_path}/a.mp4"
    assert order.model == f"{tmp_path}/m"
    assert order.opening.profile == f"{tmp_path}/mine.toml"
    assert order.opening.lora == {"high_noise": [(f"{tmp_path}/a.safetensors", 0.5)]}
    assert (order.preview, order.preview_at) == (3, f"{tmp_path}/a-preview.png")


def test_the_built_in_model_and_profiles_keep_their_names(boards, tmp_path):
    clips = clips_of(find_items([boards], tmp_path), wanted(model="holo-tiny", profile="24gb"))
    order = ORDER.of_table(clips.all[0].order)
    assert (order.model, order.opening.profile) == ("holo-tiny", "24gb")


def test_only_a_device_that_is_no_card_of_its_own_is_taken():
    with pytest.raises(SettingsError):
        wanted(device="cuda:0")
    assert wanted(device="cpu").opening.device == "cpu"
