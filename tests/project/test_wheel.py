"""In a wheel everything is inside `holo_lite`, under one name; `make release` tries a real one."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from guard import HANGS

ROOT = Path(__file__).parents[2]
TOP = ("cli", "quantize", "profiles")
ASK = """
import importlib.util, sys
import holo_lite, holo_lite.quantize.job, holo_lite.cli
from holo_lite.plan.profile import shipped_profiles
assert holo_lite.run_conversion is holo_lite.quantize.job.run_conversion
assert len(shipped_profiles()) > 4
print(sorted(name for name in sys.modules if name.split(".")[0] in ("cli", "quantize", "profiles")))
"""


@pytest.fixture(scope="module")
def layout():
    """setup.py as a module; it sets nothing up unless it is run."""
    names = {"__name__": "setup_of_the_wheel"}
    exec(compile((ROOT / "setup.py").read_text(encoding="utf-8"), "setup.py", "exec"), names)
    return names


@pytest.fixture(scope="module")
def gathered(layout, tmp_path_factory):
    """What a wheel holds, in a folder."""
    place = tmp_path_factory.mktemp("wheel")
    for name in ("holo_lite", "quantize", "profiles"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "cli.py", place)
    layout["gather"](place)
    return place


def imported(source):
    """The top-level names that a module's imports begin with."""
    for node in ast.walk(ast.parse(source)):
        names: list[str | None] = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
        yield from (name.split(".")[0] for name in names)


def test_a_wheel_has_one_top_level_name(gathered):
    assert [path.name for path in gathered.iterdir()] == ["holo_lite"]


def test_nothing_in_a_wheel_imports_a_name_that_others_may_have(gathered):
    sources = [path.read_text(encoding="utf-8") for path in gathered.rglob("*.py")]
    assert len(sources) > 250
    assert not {*TOP} & {name for source in sources for name in imported(source)}


def test_what_is_in_a_wheel_works_in_a_folder_with_modules_of_these_names(gathered, tmp_path):
    for name in TOP:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    environment = {**os.environ, "PYTHONPATH": str(gathered)}
    command = [sys.executable, "-c", ASK]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=HANGS)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("from quantize.job import run\n", "from holo_lite.quantize.job import run\n"),
        ("    from cli import main\n", "    from holo_lite.cli import main\n"),
        ('    "quantize.job": ("run",),\n', '    "holo_lite.quantize.job": ("run",),\n'),
        ('files("profiles")\n', 'files("holo_lite.profiles")\n'),
        ("from quantizer import run\n", "from quantizer import run\n"),
        (
            "from holo_lite.commands.quantize import quantize\n",
            "from holo_lite.commands.quantize import quantize\n",
        ),
        ('words = ["holo-lite", "quantize", "profiles"]\n', 'words = ["holo-lite", "quantize", "profiles"]\n'),
    ],
)
def test_names_are_changed_where_modules_are_meant(layout, source, wanted):
    assert layout["moved"](source) == wanted


def test_the_command_starts_what_python_m_starts():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"holo-lite": "holo_lite.__main__:main"}
    done = subprocess.run(
        [sys.executable, "-m", "holo_lite", "--version"], cwd=ROOT, capture_output=True, text=True, timeout=HANGS
    )
    assert done.stdout.startswith("holo-lite, version ")
