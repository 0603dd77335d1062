"""Tables in the cache are never trusted: what is damaged is set aside, said once, and made again."""

import json
import logging
import math
import threading
from typing import Any

import pytest
import torch
from guard import HANGS
from hypothesis import given, settings, strategies as st

from holo_lite.film.colours import ColourMap
from holo_lite.kernels.trial import KernelTimes
from holo_lite.plan.rate import Numbers, device_rate
from holo_lite.plan.rung_memory import SmallerPlan
from holo_lite.system.caches import COLOURS, KERNELS, RATES, RUNGS, CachePart, sizes, table
from holo_lite.system.json_table import ASIDE, JsonTable, read

SMALLER = {
    "since": 1.5e9,
    "joint": True,
    "resident": 3,
    "pinned_cache_blocks": 0,
    "pinned_ring": True,
    "tile": [8, 16],
}
SOUND: dict[CachePart, tuple[Any, dict[str, Any]]] = {
    RATES: (Numbers, {"a CPU, PyTorch 2": [1e12, 2e12]}),
    RUNGS: (SmallerPlan, {"a" * 24: {"chunks": [256, 128], **SMALLER}}),
    KERNELS: (KernelTimes, {"a card, torch 2, cudnn 9": {"seconds": {"sdpa": 0.5}, "refused": {"flash": "why"}}}),
}
DAMAGED = [
    *((RATES, value) for value in ([0, 0], [math.nan, 1e12], [math.inf], [], [1e12] * 3, [True], "x", 10**400)),
    *((RUNGS, {"chunks": chunks, **SMALLER}) for chunks in ([0, 0], [1.5, 1], [1], [True, 1], [-1, 1], 3)),
    *((RUNGS, {"chunks": [256, 128], **SMALLER, "resident": value}) for value in (-1, 1e400, 1.5, None)),
    *((RUNGS, {"chunks": [256, 128], **SMALLER, "tile": value}) for value in ([1], [1, 1], [8, 10**9], 8)),
    *((KERNELS, {"seconds": {"sdpa": value}, "refused": {}}) for value in (0, -1, math.nan, "1")),
    (KERNELS, {"seconds": {}, "refused": [1]}),
]


@pytest.mark.parametrize("part", SOUND, ids=lambda part: part.name)
def test_a_table_as_an_earlier_version_wrote_it_is_read_and_added_to(tmp_path, part):
    kind, entries = SOUND[part]
    ((key, entry),) = entries.items()
    kept = table(part, tmp_path, kind)
    kept.path.write_text(json.dumps(entries, indent=1))
    found = kept.get(key)
    assert found is not None
    kept.keep(f"b{key}" if part is not RUNGS else "b" * 24, found)
    written = json.loads(kept.path.read_text())
    assert list(written.values()) == [entry, entry]
    assert sizes(tmp_path)[part.name] == kept.path.stat().st_size


@pytest.mark.parametrize(("part", "value"), DAMAGED)
def test_wrong_figures_are_set_aside_with_one_line_and_made_again(tmp_path, caplog, part, value):
    kind, entries = SOUND[part]
    ((key, entry),) = entries.items()
    kept = table(part, tmp_path, kind)
    kept.path.write_text(text := json.dumps({key: entry, "other": value}))
    with caplog.at_level(logging.WARNING):
        assert kept.get(key) is None
    (record,) = caplog.records
    assert f"{kept.path.name} is damaged (" in record.getMessage()
    assert "at $.other" in record.getMessage()
    assert [path.name for path in tmp_path.iterdir()] == [kept.path.name + ASIDE]
    assert (tmp_path / (kept.path.name + ASIDE)).read_text() == text
    assert kept.get(key) is None
    assert len(caplog.records) == 1


def test_a_rate_of_nothing_is_measured_again(tmp_path, monkeypatch):
    monkeypatch.setattr("holo_lite.plan.rate.measure", lambda _: (3e12, 2e12))
    key = f"a chip, PyTorch {torch.__version__}"
    (tmp_path / "rates.json").write_text(json.dumps({key: [0, 0]}))
    assert device_rate(torch.device("cpu"), "a chip", tmp_path).linear == 3e12
    assert json.loads((tmp_path / "rates.json").read_text()) == {key: [3e12, 2e12]}


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(
    content=ANY.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.just("k"), ANY, min_size=1).map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=9)
    | st.sampled_from([b"[" * 100_000, b'{"k":' * 5000, b'{"k": ' + b"9" * 5000 + b"}"]),
    part=st.sampled_from([*SOUND, COLOURS]),
)
def test_whatever_a_file_of_the_cache_holds_it_never_stops_a_run(tmp_path_factory, content, part):
    folder = tmp_path_factory.mktemp("cache")
    path = folder / f"{part.name}.json"
    path.write_bytes(content)
    if part is COLOURS:
        found = read(path, ColourMap, part.what)
        assert found is None or isinstance(found, ColourMap)
        return
    kind, entries = SOUND[part]
    ((key, _),) = entries.items()
    kept = table(part, folder, kind)
    before = kept.get("k")
    assert before is None or json.loads(content)["k"] is not None
    kept.keep(key, entry := table_entry(part))
    assert kept.get(key) == entry


def table_entry(part):
    """An entry as the program makes it."""
    if part is RATES:
        return (1e12, 2e12)
    return KernelTimes({"sdpa": 0.5}, {}) if part is KERNELS else SmallerPlan((1, 1), False, 0, 0, False, None)


def test_several_ranks_that_keep_something_at_once_lose_nothing_and_leave_no_lock(tmp_path, monkeypatch):
    locks = tmp_path / "locks"
    locks.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(locks))
    table = JsonTable(tmp_path / "cache" / "numbers.json", int, "numbers")
    together = threading.Barrier(4)

    def keeps(rank):
        together.wait(HANGS)
        for number in range(5):
            table.keep(f"{rank}-{number}", number)

    ranks = [threading.Thread(target=keeps, args=(rank,)) for rank in range(4)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(HANGS)
    kept = json.loads(table.path.read_text(encoding="utf-8"))
    assert len(kept) == 4 * 5
    assert list(locks.iterdir()) == []
