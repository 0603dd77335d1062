"""The plan counts what a container may have, not what its machine has."""

import pytest

from holo_lite.plan import machine
from holo_lite.plan.container import MemoryLimit, tightest

GIB = 2**30


def groups(folder, lines, files):
    """The two places that Linux tells of groups in, as it writes them."""
    (folder / "cgroup").write_text("\n".join(lines))
    for name, content in files.items():
        path = folder / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder / "cgroup", folder / "fs"


@pytest.mark.parametrize(
    ("lines", "files", "found"),
    [
        ([], {}, None),
        (["0::/a"], {"a/memory.max": "max\n", "a/memory.current": "5"}, None),
        (["0::/a/b"], {"a/memory.max": f"{GIB}\n", "a/memory.current": "24"}, MemoryLimit(GIB, GIB - 24)),
        (
            ["0::/a/b"],
            {
                "a/memory.max": "900",
                "a/memory.current": "100",
                "a/b/memory.max": "800",
                "a/b/memory.current": "700",
            },
            MemoryLimit(800, 100),
        ),
        (
            ["0::/x"],
            {"memory.max": "1000", "memory.current": "900", "memory.stat": "anon 5\ninactive_file 300\n"},
            MemoryLimit(1000, 400),
        ),
        (
            ["4:memory,cpu:/docker/1", "0::/"],
            {"memory/memory.limit_in_bytes": "70", "memory/memory.usage_in_bytes": "90"},
            MemoryLimit(70, 0),
        ),
        (["3:cpu:/a", "nonsense", "0::/a"], {"a/memory.max": "\x00\n"}, None),
    ],
)
def test_the_limit_that_leaves_least_counts(tmp_path, lines, files, found):
    assert tightest(*groups(tmp_path, lines, files)) == found


def test_the_machine_has_no_more_than_its_container(monkeypatch):
    whole = machine.main_memory()
    monkeypatch.setattr(machine, "tightest", lambda: MemoryLimit(3 * 2**20, 2**20))
    assert machine.main_memory() == {"ram": 3 * 2**20, "ram_free": 2**20}
    monkeypatch.setattr(machine, "tightest", lambda: None)
    assert machine.main_memory()["ram"] >= whole["ram"]
