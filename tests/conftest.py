"""Fixtures that several test files share, and where test files find each other.

A folder has the name of the package that its files test; `support/` holds what tests share, `project/` tests the
project as a whole. Every folder is on the path, so a file is imported by its name, which no other file has.
"""

import gc
import lzma
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

# Threads that wait for each other at every turn make these small networks thirty times slower as soon as
# another process wants a core. Set before torch comes in; the processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

TESTS = Path(__file__).parent
DATA = TESTS / "parity_data"
sys.path[:0] = [str(folder) for folder in sorted(TESTS.iterdir()) if any(folder.glob("*.py"))]

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from subsets import FAST, FIRST, NOT_QUICK, QUICK  # noqa: E402

import cli  # noqa: E402
from holo_lite.commands.defaults import CONFIG_VARIABLE  # noqa: E402
from holo_lite.system.cache_folder import CACHE_VARIABLE  # noqa: E402

settings.register_profile("holo-lite", deadline=None)  # no test asserts a time
settings.load_profile("holo-lite")

SUBSETS = {"quick": QUICK, "fast": FAST}
WITH_TORCH = {"toy_copy", "published_model"}  # fixtures


def pytest_ignore_collect(collection_path, config):
    """With `-m quick` or `-m fast` the files of no such test are not even imported."""
    subset = SUBSETS.get(config.option.markexpr)
    if subset is None or collection_path.suffix != ".py":
        return None
    return collection_path.relative_to(TESTS).as_posix() not in subset or None


def pytest_collection_modifyitems(items):
    """Long files first; and mark the tests of each subset. What opens a model is not quick, whatever its file."""
    order = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path.relative_to(TESTS).as_posix(), len(FIRST)))
    for item in items:
        name = item.path.relative_to(TESTS).as_posix()
        if name in FAST:
            item.add_marker("fast")
        if name in QUICK and item.name not in NOT_QUICK and not WITH_TORCH & {*item.fixturenames}:
            item.add_marker("quick")


# While all test files are imported, which makes a million objects that stay, no garbage is looked for among them.
gc.disable()


def pytest_collection_finish():
    gc.freeze()  # or the first search would go through them all
    gc.enable()


@pytest.fixture(autouse=True)
def no_torch(request):
    """What is marked as quick brings no torch in."""
    before = "torch" in sys.modules
    yield
    assert before or "torch" not in sys.modules or request.node.get_closest_marker("quick") is None


@pytest.fixture(scope="module", autouse=True)
def imported_for_good():
    """Leave what is imported out of every later collection of garbage: a million objects, looked at each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def signals_stay():
    """No file leaves a handler of its own behind, which would answer the signals of a later file's tests."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.fixture(scope="session")
def umt5_tokenizer_path(tmp_path_factory):
    """The real tokenizer.json of google/umt5-xxl, unpacked once."""
    path = tmp_path_factory.mktemp("umt5-xxl") / "tokenizer.json"
    path.write_bytes(lzma.decompress((DATA / "umt5-xxl" / "tokenizer.json.xz").read_bytes()))
    return path


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """One cache for all tests, so that the toy is made once and nobody's own cache is touched."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("HOLO_LITE_")]:
            patch.delenv(name)
        patch.setenv(CACHE_VARIABLE, str(folder))
        patch.setenv(CONFIG_VARIABLE, str(folder / "no-config.toml"))
        for terminal in ("FORCE_COLOR", "TTY_COMPATIBLE", "CLICOLOR_FORCE"):
            patch.delenv(terminal, raising=False)
        yield folder


@pytest.fixture
def toy_copy(cache, tmp_path):
    """The toy's files in a folder of one's own, to be spoilt."""
    from toy_files import toy_model

    return Path(shutil.copytree(toy_model(cache), tmp_path / "model"))


@pytest.fixture(scope="session")
def published_model(tmp_path_factory, umt5_tokenizer_path):
    """A small model in the original files' names, folders and formats, with the real vocabulary."""
    from whole_models import write_published_model

    return write_published_model(tmp_path_factory.mktemp("models"), umt5_tokenizer_path)


@dataclass(frozen=True)
class Outcome:
    """How a command went."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command line in this process, standing in tmp_path."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["holo-lite", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return Outcome(caught.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="session", autouse=True)
def no_signal_ignored():
    """A test run begun in the background, or by nohup, ignores signals, and so would all that it starts."""
    for name, handler in (
        ("SIGINT", signal.default_int_handler),
        ("SIGTERM", signal.SIG_DFL),
        ("SIGHUP", signal.SIG_DFL),
    ):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)
