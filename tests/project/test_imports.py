"""Imports point one way, help costs nothing, and no module speaks for itself."""

import ast
import json
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest
from guard import HANGS
from hypothesis import given, strategies as st
from layers import LAYERS

ROOT = Path(__file__).parents[2]
PACKAGES = ("holo_lite", "quantize", "profiles")

TORCH_FREE = (
    "holo_lite",
    "holo_lite.system.caches",
    "holo_lite.config",
    "holo_lite.tiny.demo",
    "holo_lite.jobs.drafts",
    "holo_lite.doctor.judge",
    "holo_lite.doctor.look",
    "holo_lite.errors",
    "holo_lite.evaluation.cuts",
    "holo_lite.evaluation.marks",
    "holo_lite.evaluation.reading",
    "holo_lite.evaluation.scores",
    "holo_lite.farm.driver",
    "holo_lite.fetch.hub",
    "holo_lite.fetch.order",
    "holo_lite.fetch.run",
    "holo_lite.cancel",
    "holo_lite.progress",
    "holo_lite.eventjson.event_json",
    "holo_lite.inspection.describe",
    "holo_lite.runs.record",
    "holo_lite.runs.state_facts",
    "holo_lite.schemes.names",
    "holo_lite.weights.plain_header",
    "quantize.journal",
    "quantize.recipe",
    "holo_lite.preflight.check",
    "holo_lite.preflight.rules",
    "holo_lite.views.check",
    "holo_lite.model.clip",
    "holo_lite.model.memory",
    "holo_lite.system.cache_folder",
    "holo_lite.plan.card_table",
    "holo_lite.plan.cards",
    "holo_lite.plan.known_card",
    "holo_lite.plan.decoding",
    "holo_lite.plan.machine",
    "holo_lite.plan.plan",
    "holo_lite.plan.profile",
    "holo_lite.sampling.schedule",
    "holo_lite.settings",
    "holo_lite.story.files",
    "holo_lite.story.shots",
    "holo_lite.story.storyboard",
    "holo_lite.story.timeline",
    "holo_lite.story.prompt",
    "holo_lite.text.encoder_sizes",
    "holo_lite.text.windows",
    "holo_lite.weights.folder",
    "holo_lite.writing.chat",
    "holo_lite.writing.writing",
    "cli",
)
LONGEST_CHAIN = 18  # modules: to understand the first, a reader may have to go through all others
HEAVY = ("torch", "transformers", "diffusers", "accelerate", "bitsandbytes", "av", "ray")

MOVED_IN_THE_MODEL = {"rope_angles(size, part).to(device)"}  # a table made from numbers, no weight


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    module_name(path): path
    for path in [ROOT / "cli.py", *(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))]
}


def tree(module):
    return ast.parse(SOURCES[module].read_text(encoding="utf-8"))


def is_loaded_by_its_place(module):
    """Whether ComfyUI may load a module under any name: then its imports of ours are relative ones."""
    apart = {"holo_lite", "holo_lite.errors", "holo_lite.system.starting", "holo_lite.worker.client"}
    return module in apart or home(module) == ("holo_lite", "comfy")


@cache
def imports(module, walk=ast.walk):
    """Every module of the project that this one names in an import, wherever the import stands."""
    return tuple(named(module, walk))


def named(module, walk):
    for node in walk(tree(module)):
        if isinstance(node, ast.Import):
            names: list[str | None] = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = full_name(node, module)
            assert not node.level or is_loaded_by_its_place(module), f"{module} imports relatively"
            full = [f"{origin}.{alias.name}" for alias in node.names]
            names = [name if name in SOURCES else origin for name in full]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in {*PACKAGES, "cli"})


def full_name(node, module):
    """What an import names, as if it were absolute."""
    if not node.level:
        return node.module
    parts = module.split(".")
    package = parts if SOURCES[module].name == "__init__.py" else parts[:-1]
    return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])


def row(module):
    """The number of the row that a module's package has, from the ground up."""
    package = ".".join(module.split(".")[:2]) if module.startswith("holo_lite.") else module.split(".")[0]
    rows = [number for number, names in enumerate(LAYERS) if package in names]
    assert len(rows) == 1, f"{package} has no place in LAYERS, or two: say on which packages it may build"
    return rows[0]


def home(module):
    """The package a module belongs to; one at the root of holo_lite is its own."""
    return tuple(module.split(".")[:2]) if module.startswith("holo_lite.") else (module.split(".")[0],)


# The packages' own __init__ hold nothing (tested below) but holo_lite's, which looks names up when asked.
MODULES = [module for module, path in SOURCES.items() if path.name != "__init__.py"]


@pytest.mark.parametrize("module", MODULES)
def test_a_package_imports_itself_or_a_lower_row(module):
    others = [name for name in imports(module) if home(name) != home(module)]
    assert [name for name in others if row(name) >= row(module)] == []


def test_what_comfyui_loads_names_nothing_of_ours_absolutely():
    """In its process there is no `holo_lite`: the clone has the name of its folder."""
    for module in filter(is_loaded_by_its_place, SOURCES):
        body = tree(module).body  # what runs when the module is imported; the facade's names come in when asked for
        absolute = [node for each in body if not is_for_types(each) for node in ast.walk(each)]
        named = [node.module for node in absolute if isinstance(node, ast.ImportFrom) and not node.level]
        named += [alias.name for node in absolute if isinstance(node, ast.Import) for alias in node.names]
        assert [name for name in named if name.split(".")[0] in {*PACKAGES, "cli"}] == [], module


def is_for_types(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def test_a_row_names_what_is_there():
    found = {".".join(home(module)) for module in MODULES} | {"profiles"}
    assert {name for names in LAYERS for name in names} == found


def test_there_is_no_cycle():
    graph = {module: set(imports(module)) for module in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError and names the cycle


def what_runs(node):
    """What runs when a module is imported: no function's body, and nothing that is there for types alone."""
    yield node
    inner = node.orelse if is_for_types(node) else ast.iter_child_nodes(node)
    for each in inner:
        if not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from what_runs(each)


def longest_chain(graph):
    """The most nodes of which each points to the next."""
    longest = {}
    for node in TopologicalSorter(graph).static_order():  # what a node points to comes before it
        longest[node] = [node, *max((longest[other] for other in graph[node]), key=len, default=[])]
    return max(longest.values(), key=len)


def test_no_chain_of_imports_is_long():
    found = longest_chain({module: set(imports(module, what_runs)) for module in MODULES})
    assert len(found) <= LONGEST_CHAIN, " → ".join(found)


def chains(graph, node):
    """Every chain from a node on, one after the other."""
    yield [node]
    yield from ([node, *rest] for other in graph[node] for rest in chains(graph, other))


@given(st.lists(st.sets(st.integers(0, 6)), min_size=1, max_size=7))
def test_the_longest_chain_is_the_longest_of_all(rows):
    graph = {node: {other for other in others if other < node} for node, others in enumerate(rows)}
    found = longest_chain(graph)
    assert all(after in graph[before] for before, after in pairwise(found))
    assert len(found) == max(len(chain) for node in graph for chain in chains(graph, node))


def test_what_runs_at_an_import():
    source = """
import a
if TYPE_CHECKING:
    import b
else:
    import c
class Some:
    import d
    def some(self):
        import e
try:
    import f
except ImportError:
    import g
"""
    found = [node for node in what_runs(ast.parse(source)) if isinstance(node, ast.Import)]
    assert [ast.unparse(node) for node in found] == [f"import {name}" for name in "acdfg"]


def test_nothing_of_ours_imports_the_facade():
    """It stands above everything; a module that imported from it would import in a circle."""
    for module in MODULES:
        for node in ast.walk(tree(module)):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert "holo_lite" not in names, module


def test_packages_are_empty_but_the_facade():
    for module, path in SOURCES.items():
        if path.name == "__init__.py" and module != "holo_lite":
            assert [node for node in tree(module).body if not is_text(node)] == [], module


def is_text(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def test_the_facade_gives_every_name_it_promises():
    import holo_lite

    given = {name: getattr(holo_lite, name) for name in holo_lite.__all__}
    assert all(getattr(found, "__name__", name) == name for name, found in given.items())
    wrong = "pipelines"
    with pytest.raises(AttributeError, match="'holo_lite' has no attribute 'pipelines'"):
        getattr(holo_lite, wrong)


def test_the_light_modules_load_nothing_heavy():
    """One process a module would cost a second; one process that looks after each import does not."""
    script = (
        "import importlib, json, sys\n"
        "found = {}\n"
        f"for name in {TORCH_FREE!r}:\n"
        "    importlib.import_module(name)\n"
        f"    found[name] = [heavy for heavy in {HEAVY!r} if heavy in sys.modules]\n"
        "print(json.dumps(found))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=HANGS
    )
    assert json.loads(done.stdout) == {name: [] for name in TORCH_FREE}


@pytest.mark.parametrize("module", SOURCES)
def test_no_module_prints(module):
    calls = [node.func for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]
    assert [call for call in calls if isinstance(call, ast.Name) and call.id == "print"] == []
    written = {ast.unparse(call) for call in calls if isinstance(call, ast.Attribute)}
    assert written & {"sys.stdout.write", "sys.stderr.write"} == set()
    if module not in {"cli", "holo_lite.commands.quantize"} and not module.startswith("holo_lite.commands."):
        assert not any(call.startswith("click.") for call in written)


def moves(call):
    """Whether a call of a method may bring a tensor to another device."""
    given = [*map(ast.unparse, call.args), *(keyword.arg or "" for keyword in call.keywords)]
    return call.func.attr in {"cuda", "cpu"} or (
        call.func.attr == "to" and any("device" in word or "cuda" in word or "cpu" in word for word in given)
    )


def test_the_model_moves_nothing_between_devices():
    """Where weights stand is the loader's and the experts' business; the model takes them where they are."""
    model = [module for module in MODULES if module.startswith("holo_lite.model.")]
    nodes = [node for module in model for node in ast.walk(tree(module))]
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    assert {ast.unparse(call) for call in calls if moves(call)} == MOVED_IN_THE_MODEL


def test_the_repository_itself_is_no_package_of_anybody_but_comfyui():
    """Its `__init__.py` is for ComfyUI. pytest looks into it because it is there."""
    root = str(ROOT / "__init__.py")
    found = {name for name, each in sys.modules.items() if getattr(each, "__file__", None) == root}
    # tests/comfy loads it by its place, and pytest by the folder's name
    assert {name for name in found if not name.startswith("/")} <= {"__init__", ROOT.name}
    body = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8")).body
    imports = [each for each in body if isinstance(each, ast.Import | ast.ImportFrom)]
    assert {ast.unparse(each) for each in imports} == {
        "from __future__ import annotations",
        "from typing import Any",
    }
    assert not any(isinstance(each, ast.Expr | ast.If | ast.With | ast.Try) for each in body if not is_text(each))


def test_every_package_is_in_the_distribution():
    """An editable install finds them all the same; a wheel does not."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {module_name(path) for name in PACKAGES for path in (ROOT / name).rglob("__init__.py")}
    assert set(declared) == found
