"""The page on Python is run as it stands, in a fresh interpreter, and prints what it says it prints."""

import ast
import dataclasses
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from guard import HANGS

import holo_lite
from holo_lite import Options, RunSettings, Shot, Storyboard, errors, events
from holo_lite.config import Defaults
from holo_lite.settings import resolve
from holo_lite.system.cache_folder import CACHE_VARIABLE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```(python|text)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
ANYTHING = "…"  # in a line of what an example prints

# Each example sees the names of those before it, as a reader does who types them in. What an example has imported
# is left out of later collections of garbage, as in conftest.py: each film asks for some.
DRIVER = """
import contextlib, gc, io, json, sys, traceback
names, found = {"__name__": "__main__"}, []
for number, code in enumerate(json.load(open(sys.argv[1], encoding="utf-8"))):
    printed, failed = io.StringIO(), ""
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(code, f"example {number}", "exec"), names)
        except BaseException:
            failed = traceback.format_exc()
    found.append([printed.getvalue(), failed])
    gc.collect()
    gc.freeze()
json.dump(found, open(sys.argv[2], "w", encoding="utf-8"))
"""


def examples(page):
    """Each example with what it prints, by the heading it stands under: nothing where nothing is said."""
    blocks = [(match[1], match[2]) for match in FENCED.finditer(page)]
    assert blocks[0][0] == "python"
    followed = zip(blocks, [*blocks[1:], ("python", "")], strict=True)
    return [
        (code, after if kind == "text" else "") for (python, code), (kind, after) in followed if python == "python"
    ]


EXAMPLES = examples(PAGE)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """What every example printed and how it failed, and what reached stderr."""
    folder = tmp_path_factory.mktemp("python")
    return run_examples([code for code, _ in EXAMPLES], folder)


def run_examples(codes, folder):
    (folder / "examples.json").write_text(json.dumps(codes), encoding="utf-8")
    (folder / "work").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(folder / "cache"))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")  # the page was written where there is no card
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, folder / "examples.json", folder / "found.json"],
            cwd=folder / "work",
            capture_output=True,
            text=True,
            timeout=HANGS,
        )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "found.json").read_text(encoding="utf-8")), done.stdout + done.stderr


def agree(said, printed):
    """Whether what was printed is what the page says, line by line."""
    said, printed = said.splitlines(), printed.splitlines()
    patterns = [".*".join(map(re.escape, line.split(ANYTHING))) for line in said]
    return len(said) == len(printed) and all(map(re.fullmatch, patterns, printed))


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_prints_what_the_page_says(outcome, number):
    printed, failed = outcome[0][number]
    assert not failed, failed
    assert agree(EXAMPLES[number][1], printed), printed


def test_nothing_else_is_printed(outcome):
    """Neither by the library nor by those below it."""
    assert outcome[1] == ""


def test_the_check_can_fail(tmp_path):
    """An example that raises, one that prints something else, and a library that speaks."""
    page = "```python\nx = 1\nraise OSError\n```\n\n```python\nprint(x)\n```\n\n```text\n2\n```\n"
    speaks = "import os\nos.write(2, b'a word')\n"
    found, spoken = run_examples([*(code for code, _ in examples(page)), speaks], tmp_path)
    assert "OSError" in found[0][1]
    assert [printed for printed, _ in found] == ["", "1\n", ""]
    assert not agree("2\n", "1\n")
    assert not agree("a … c\n", "a b d\n")
    assert not agree("", "1\n")
    assert spoken == "a word"


# --- what is public --------------------------------------------------------------------------------


def public():
    """The names of the table at the end."""
    table = PAGE[PAGE.index("| for | names |") :]
    return set(re.findall(r"`(\w+)`", table))


def test_the_facade_is_what_the_page_promises():
    assert public() == {*holo_lite.__all__} <= {*dir(holo_lite)}


def test_examples_import_from_the_facade_alone():
    used = [
        node
        for code, _ in EXAMPLES
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    named = [alias.name for node in used if isinstance(node, ast.Import) for alias in node.names]
    modules = {node.module for node in used if isinstance(node, ast.ImportFrom)}
    ours = {name for name in {*named, *modules} if name.split(".")[0] in {"holo_lite", "quantize", "profiles"}}
    assert ours == {"holo_lite"}
    taken = [alias.name for node in used if getattr(node, "module", "") == "holo_lite" for alias in node.names]
    assert {*taken} <= public()


def test_the_page_names_no_module_of_ours():
    """The loggers' names apart, which are what a logger prints."""
    prose = FENCED.sub("", PAGE)
    assert re.findall(r"holo_lite\.\w+|quantize\.\w+", prose) == []


@pytest.mark.parametrize("name", holo_lite.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name):
    found = getattr(holo_lite, name)
    if not inspect.isclass(found) and not callable(found):
        assert name == "Event"  # the union of all events
        return
    assert found.__doc__
    if inspect.isclass(found):
        own = [value for key, value in vars(found).items() if not key.startswith("_")]
        called = [value for value in own if callable(value) or isinstance(value, property | classmethod)]
        assert all(each.__doc__ for each in called)


def test_type_checkers_read_the_same_facade():
    """The imports that type checkers see name what the lookup at run time gives."""
    tree = ast.parse(Path(holo_lite.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert imports == block.body
    seen = {alias.name: node.module for node in imports for alias in node.names}
    assert seen == holo_lite._HOMES


def test_every_event_and_error_is_in_the_facade():
    tree = {
        name
        for name, found in vars(errors).items()
        if inspect.isclass(found) and found.__module__ == errors.__name__
    }
    kinds = {kind.__name__ for kind in events.Event.__args__}
    assert tree | kinds <= {*holo_lite.__all__}


@pytest.mark.parametrize("record", [Options, Storyboard])
def test_every_field_is_explained(record):
    explained = {*re.findall(r"`+(\w+)`+", record.__doc__)}
    assert {field.name for field in dataclasses.fields(record)} - {"shots"} <= explained


# --- what the page made simpler --------------------------------------------------------------------


@pytest.mark.parametrize(
    "board",
    [
        Storyboard("A house.", (Shot("wide"), Shot("close")), seed=3, fps=12.0, negative="rain"),
        Storyboard("A house.", (Shot("wide", seconds=1.0), Shot("close", frames=8)), height=64),
        Storyboard(None, (), raw="a house by the sea", cfg=3.0),
    ],
    ids=["even", "durations", "prompt"],
)
@pytest.mark.parametrize("said", [Options(), Options(seed=9, steps=3, cache=(0.1, 0.0), cfg_until=0.5, width=128)])
def test_the_options_of_a_run_make_it_again(board, said):
    """Whatever the model's own defaults are by then."""
    machine = {"attention": "sparse", "dtype": "bf16", "device": "cpu", "model": "m"}
    settings, _ = resolve(board, said, Defaults(frames=33), **machine)
    again, _ = resolve(settings.storyboard, settings.options, Defaults(steps=1, cfg=1, frames=9, fps=1), **machine)
    assert again == settings == RunSettings.from_json(settings.to_json())


def test_shots_given_as_a_list_are_as_good():
    rows = [{"caption": "wide"}, {"caption": "close"}]
    assert Storyboard("A house.", [Shot(**row) for row in rows]) == Storyboard(
        "A house.", (Shot("wide"), Shot("close"))
    )
