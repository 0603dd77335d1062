"""The short subsets of the tests are what they say: files that are there, and no torch in the quick ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from guard import HANGS
from subsets import FAST, FIRST, QUICK

TESTS = Path(__file__).parents[1]
COLLECT = """
import json, sys
import pytest

class Items:
    def pytest_collection_finish(self, session):
        self.files = sorted({str(item.path) for item in session.items})

items = Items()
code = pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", "-m", "quick"], plugins=[items])
heavy = [name for name in ("torch", "diffusers", "transformers") if name in sys.modules]
print(json.dumps([int(code), items.files, heavy]))
"""


@pytest.mark.parametrize("subset", [QUICK, FAST, FIRST], ids=["quick", "fast", "first"])
def test_a_subset_names_each_of_its_files_once_and_all_are_there(subset):
    assert len(set(subset)) == len(subset)
    assert [name for name in subset if not (TESTS / name).is_file()] == []


def test_the_quick_subset_is_collected_without_torch():
    """`-m quick` imports its own files and nothing heavy: torch alone would take as long as all of its tests."""
    done = subprocess.run(
        [sys.executable, "-c", COLLECT], cwd=TESTS.parent, capture_output=True, text=True, timeout=HANGS
    )
    code, files, heavy = json.loads(done.stdout.splitlines()[-1])
    assert (code, heavy) == (0, [])
    assert files == sorted(str(TESTS / name) for name in QUICK)


def test_the_quick_tests_are_fast_ones():
    assert set(QUICK) <= set(FAST)
