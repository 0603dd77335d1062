"""Manners of a library: it logs and configures nothing, and what it raises at a person stands in one tree."""

import ast
import inspect
import logging
import re
from dataclasses import dataclass

import pytest
import torch
from test_imports import SOURCES, tree
from toy_files import toy_model

from holo_lite import Options, Pipeline, Storyboard, errors
from holo_lite.events import StepDone, SteppedDown
from holo_lite.render.retry import OomRetry
from holo_lite.system.quiet import BITSANDBYTES, without_remarks

ABOVE = ("cli", "holo_lite.commands.quantize", "holo_lite.commands")  # where a person is spoken to
LIBRARY = [name for name in SOURCES if name not in ABOVE and not name.startswith("holo_lite.commands.")]
QUIET = "holo_lite.system.quiet"  # the one module that touches another library's logger, and puts it back

# A wish; what the streamer and the ladder catch; and what the ranks of a clip tell each other by.
INTERNAL = {"Cancelled", "ClosedError", "PinError", "Parted", "Left", "ShortElsewhere"}
BY_PROTOCOL = {"AssertionError", "AttributeError"}  # our own mistakes, and what Python asks of `__getattr__`
CAUGHT = {
    "OSError",
    "SafetensorError",
    "TypeError",
    "ValueError",
}  # where they are raised, for whoever reads a file


# --- texts -----------------------------------------------------------------------------------------


def texts_without_encoding(module):
    """Every call of another program whose words are decoded as this system happens to do it."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("subprocess."):
            said = {each.arg for each in node.keywords}
            if said & {"text", "universal_newlines"} and "encoding" not in said:
                yield ast.unparse(node.func)


def test_what_programs_say_is_decoded_in_one_way_on_every_system():
    found = {name: [*texts_without_encoding(tree(name))] for name in SOURCES}
    assert {name: calls for name, calls in found.items() if calls} == {}
    assert [*texts_without_encoding(ast.parse("subprocess.run(words, text=True)"))] == ["subprocess.run"]


# --- logging ---------------------------------------------------------------------------------------


def configuring(module):
    """Every use of logging in a module's tree but its own logger, and every use of warnings."""
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "logging" and node.attr not in LEVELS:
            yield ast.unparse(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CONFIGURING:
            yield from {ast.unparse(node.func)} - {"gc.disable"}  # which is about garbage
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            yield from names & {"warnings", "logging.config", "logging.handlers"}


LEVELS = {"DEBUG", "INFO", "WARNING", "ERROR"}
CONFIGURING = {"addHandler", "addFilter", "setLevel", "basicConfig", "captureWarnings", "disable"}


def own_loggers(module):
    """How a module asks for loggers."""
    calls = [node for node in ast.walk(module) if isinstance(node, ast.Call)]
    return [ast.unparse(call) for call in calls if ast.unparse(call.func).endswith("getLogger")]


def test_modules_log_under_their_names_and_configure_nothing():
    found = {name: (own_loggers(tree(name)), [*configuring(tree(name))]) for name in LIBRARY if name != QUIET}
    manners = ([], []), (["logging.getLogger(__name__)"], ["logging.getLogger"])
    assert {name: uses for name, uses in found.items() if uses not in manners} == {}
    assert sum(bool(own) for own, _ in found.values()) > 5


@pytest.mark.parametrize(
    ("line", "use"),
    [
        ("logging.basicConfig()", "logging.basicConfig"),
        ("logging.warning('x')", "logging.warning"),
        ("logging.getLogger('torch').setLevel(logging.ERROR)", "logging.getLogger('torch').setLevel"),
        ("logger.addHandler(h)", "logger.addHandler"),
        ("import warnings", "warnings"),
        ("from warnings import warn", "warnings"),
    ],
)
def test_configuring_would_be_found(line, use):
    assert use in [*configuring(ast.parse(line))]


def test_another_librarys_logger_is_as_it_was():
    logger = logging.getLogger(BITSANDBYTES)
    before = logger.level
    with without_remarks():
        assert not logger.isEnabledFor(logging.WARNING)
        assert logger.isEnabledFor(logging.ERROR)
    assert logger.level == before
    with pytest.raises(ImportError), without_remarks():
        raise ImportError
    assert logger.level == before


def test_the_log_tells_where_a_run_goes_on(cache, tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "holo_lite")
    pipeline, board = Pipeline.load(toy_model(cache)), Storyboard(None, (), raw="a road")
    said = {"options": Options(frames=5, height=16, width=16, steps=2), "run": tmp_path / "run"}
    events = pipeline.generate(board, tmp_path / "a.mp4", **said)
    assert any(isinstance(event, StepDone) for event in events)
    events.close()
    list(pipeline.generate(board, tmp_path / "a.mp4", **said))
    told = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    folder = tmp_path / "run"
    assert ("holo_lite.render.keeper", "DEBUG", f"{folder}: step 1 is saved") in told
    assert ("holo_lite.render.keeper", "INFO", f"{folder}: continuing after step 1 (nothing changed)") in told
    assert [level for _, level, _ in told if level not in {"DEBUG", "INFO"}] == []


def test_the_log_tells_what_was_given_up(caplog):
    caplog.set_level(logging.INFO, "holo_lite")

    @dataclass(frozen=True)
    class Plan:
        rungs: tuple = ()

    def attempt(plan):
        yield "begun"
        if not plan.rungs:
            raise torch.OutOfMemoryError("no room for 3 GiB\nand more")

    retry = OomRetry(torch.device("cpu"), lambda plan, _: (plan, "half of the chunks"), lambda _: None)

    def driven(plan=Plan()):
        while True:
            with retry:
                yield from attempt(plan)
                return
            yield (down := retry.down(plan, "step 3"))
            plan = down.plan

    events = list(driven())
    assert sum(isinstance(event, SteppedDown) for event in events) == 1
    assert caplog.messages == ["step 3: memory ran out (no room for 3 GiB); continuing with half of the chunks"]


# --- errors ----------------------------------------------------------------------------------------


def drawn():
    """The tree of the docstring: each error with its parent."""
    found, above = {}, ["Exception"]
    for line in errors.__doc__.splitlines():
        if (match := re.match(r"    ((?:│   )*)([├└]── )?(\w+Error) ", line)) and "(in `" not in line:
            depth = len(match[1]) // 4 + bool(match[2])
            found[match[3]] = above[depth]
            above[depth + 1 :] = [match[3]]
    return found


def test_the_tree_is_drawn_as_it_stands():
    classes = [found for found in vars(errors).values() if inspect.isclass(found) and issubclass(found, Exception)]
    assert drawn() == {found.__name__: found.__base__.__name__ for found in classes}


def defined(module):
    """The exceptions that a module makes, by the names of their bases."""
    for node in (found for found in ast.walk(tree(module)) if isinstance(found, ast.ClassDef)):
        bases = {ast.unparse(base) for base in node.bases}
        if any(base.endswith(("Error", "Exception")) for base in bases):
            yield node.name, bases


def test_every_other_exception_is_a_child_of_the_tree_or_never_reaches_a_person():
    others = [found for name in SOURCES if name != errors.__name__ for found in defined(name)]
    assert ("PinError", {"Exception"}) in others
    outside = {name for name, bases in others if not bases <= {*drawn()}}
    assert outside == INTERNAL


def test_what_is_raised_is_known():
    raised = {
        (module, ast.unparse(node.exc.func if isinstance(node.exc, ast.Call) else node.exc))
        for module in LIBRARY
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Raise) and node.exc
    }
    children = {name for module in LIBRARY for name, bases in defined(module) if bases <= {*drawn()}}
    known = {*drawn(), *children, *INTERNAL, *BY_PROTOCOL, *CAUGHT}
    classes = {(module, name) for module, name in raised if re.fullmatch(r"[A-Z]\w+", name)}
    assert len(classes) > 50
    assert [(module, name) for module, name in classes if name not in known] == []
