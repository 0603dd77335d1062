"""The cache is shown as large as it is, and clearing it takes what is ours and nothing else."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings, strategies as st

from holo_lite import ModelOptions
from holo_lite.film.colours import ColourMap
from holo_lite.jobs import preview
from holo_lite.kernels.kernel import Site
from holo_lite.kernels.table import KernelTimesTable, key_of
from holo_lite.kernels.trial import KernelTimes
from holo_lite.plan import rate
from holo_lite.plan.rung_memory import RungMemory, SmallerPlan
from holo_lite.render.pipeline import Pipeline
from holo_lite.settings import Options
from holo_lite.story.files import load_storyboard
from holo_lite.system.cache_folder import CACHE_VARIABLE, cache_folder
from holo_lite.system.caches import CACHE_PARTS, RUNGS, clear, sizes, table
from holo_lite.text.cache import PromptCache
from holo_lite.tiny.model import tiny_model

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A cache of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


def content(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def fill(folder, monkeypatch):
    """Every kind of entry, by the code that makes it."""
    PromptCache(folder / "prompts").put("a" * 64, torch.ones(2, 3))
    monkeypatch.setattr(rate, "measure", lambda _: (1e12, 1e12))
    rate.device_rate(torch.device("cpu"), "this CPU", folder)
    RungMemory(table(RUNGS, folder, SmallerPlan), "b" * 24).keep(plan_of_a_run())
    monkeypatch.setattr(preview, "fit_colours", lambda _: ColourMap(((0.0,) * 16,) * 3, (0.0,) * 3))
    preview._fitted(tiny_model() / "vae")
    KernelTimesTable(folder).keep(
        key_of(Site(torch.device("cpu"), torch.bfloat16, 2, 8), []), KernelTimes({"sdpa": 1.0}, {})
    )


def plan_of_a_run():
    return (
        Pipeline.load(options=ModelOptions(device="cpu")).prepare(load_storyboard("a road"), Options(frames=9)).plan
    )


def test_every_part_has_its_size_and_all_of_it_is_cleared(run, place, monkeypatch):
    fill(place, monkeypatch)
    (place / "prompts" / f".{'c' * 64}.safetensors.12-34.part").write_bytes(b"killed")
    on_disk = {path: (place / path).stat().st_size for path in content(place)}
    assert all(size > 0 for size in sizes(place).values())
    assert sum(sizes(place).values()) == sum(on_disk.values())
    shown = run("cache").out.splitlines()
    assert shown[0].endswith(f" in {place}")
    assert [line.split()[2] for line in shown[1:]] == [f"{part.name}:" for part in CACHE_PARTS]
    outcome = run("cache", "clear")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"{shown[0].split(' in ')[0]} removed from {place}\n"
    assert not place.exists()


def test_every_module_that_asks_for_the_folder_is_known_here():
    """Who begins to keep something there must give it a part in `system.caches`, and a line in this list."""
    keeping = {"render/text_phase", "render/preparing", "kernels/computing", "preflight/deciding", "jobs/preview"}
    keeping |= {"opening/company", "render/followed"}
    managing = {"system/caches", "commands/cache", "commands/doctor"}
    asking = set()
    for path in (ROOT / "holo_lite").rglob("*.py"):
        calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
        if "cache_folder" in map(ast.unparse, calls):
            asking.add(path.relative_to(ROOT / "holo_lite").with_suffix("").as_posix())
    assert asking - managing <= keeping


OTHERS = st.sampled_from(
    [
        *("rates.json", "rungs.json", "kernels.json", "sub/rates.json", "photo.jpg", "prompts.safetensors"),
        *("prompts/a.safetensors", f"prompts/{'a' * 64}.bin", "prompts/notes"),
        *(f"{'a' * 64}.safetensors", f"other/{'a' * 64}.safetensors"),
    ]
)


@settings(max_examples=40, deadline=None)
@given(files=st.sets(OTHERS, min_size=1), text=st.sampled_from(["", "[1]", "{}", '{"EUR": 1.1}', "\x00\x01"]))
def test_what_is_somebody_elses_stays(tmp_path_factory, files, text):
    """As in a home folder that the variable points at by mistake."""
    home = tmp_path_factory.mktemp("home")
    for file in files:
        (home / file).parent.mkdir(exist_ok=True)
        (home / file).write_text(text)
    before = content(home)
    assert clear(home) == 0
    assert content(home) == before
    shutil.rmtree(home)


def test_a_home_folder_keeps_its_files_and_loses_only_ours(place, monkeypatch):
    fill(place, monkeypatch)
    (place / "prompts" / "ideas.txt").write_text("mine")
    (place / "thesis.tex").write_text("mine")
    assert clear(place) > 0
    assert content(place) == ["prompts/ideas.txt", "thesis.tex"]


@pytest.mark.parametrize("linked", ["prompts", "rates.json"])
def test_what_a_link_leads_to_stays(tmp_path, place, monkeypatch, linked):
    fill(place, monkeypatch)
    elsewhere = tmp_path / "elsewhere"
    (place / linked).rename(elsewhere)
    (place / linked).symlink_to(elsewhere)
    before = content(elsewhere) if elsewhere.is_dir() else elsewhere.read_bytes()
    assert before
    clear(place)
    assert (content(elsewhere) if elsewhere.is_dir() else elsewhere.read_bytes()) == before


def test_there_need_be_no_cache(run, place):
    assert run("cache").out.startswith(f"0 bytes in {place}\n")
    assert run("cache", "clear").out == f"0 bytes removed from {place}\n"
    assert not place.exists()


def test_the_variable_moves_it_and_a_tilde_is_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv(CACHE_VARIABLE, "~/kept")
    assert cache_folder() == tmp_path / "kept"
    monkeypatch.delenv(CACHE_VARIABLE)
    assert cache_folder().name == "holo-lite"


def test_it_needs_nothing_heavy(place):
    place.mkdir()
    (place / "rates.json").write_text(json.dumps({"this CPU, PyTorch 2.13.0": [1.0, 1.0]}))
    script = "import sys, cli\ntry: cli.main()\nexcept SystemExit: print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script, "cache", "clear"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"40 bytes removed from {place}\nFalse\n"
