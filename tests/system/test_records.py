"""Records grow: every version's are read, keys not known here are kept, and whatever else comes is one error."""

import copy
import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from record_shapes import CODECS, FILE, complaints, shape_of

from holo_lite.errors import LaterRecordError, RecordError
from holo_lite.film.colours import ColourMap
from holo_lite.kernels.trial import KernelTimes
from holo_lite.model.clip import Chunks
from holo_lite.plan.plan import PhasePlan
from holo_lite.plan.rate import Numbers
from holo_lite.plan.rung_memory import SmallerPlan
from holo_lite.reading.trees import parse
from holo_lite.runs.record import RECORD
from holo_lite.runs.state_facts import STATE_FACTS, StoredCache
from holo_lite.settings import SETTINGS, AddedLora
from holo_lite.story.storyboard import Shot
from holo_lite.system.caches import KERNELS, RATES, RUNGS, table
from holo_lite.system.record_fields import Positive
from holo_lite.system.records import FIRST, Codec, Origin
from holo_lite.weights.manifest import MANIFEST
from quantize.journal import Journal

FILES = {path.name: path for path in sorted((Path(__file__).parents[1] / "records").glob("v*/*"))}
VERSIONS = {"version", "format", "holo_lite_run", "runs_from"}
KINDS: dict[str, Codec[Any]] = {"settings": SETTINGS, "run": RECORD, "state": STATE_FACTS, "model": MANIFEST}
WRITTEN = [name for name in FILES if name.split("-")[0] in KINDS]


def text_of(name):
    return FILES[name].read_text(encoding="utf-8")


def read(name):
    return KINDS[name.split("-")[0]].read(text_of(name))


# --- every version's records are read --------------------------------------------------------------


@pytest.mark.parametrize("name", WRITTEN)
def test_a_record_of_an_earlier_version_says_what_it_said(name):
    """What it does not hold has its default, and written again it holds all that it held but its version."""
    codec, was = KINDS[name.split("-")[0]], json.loads(text_of(name))
    record = codec.read(text_of(name))
    assert record.origin == codec.current
    now = json.loads(codec.write(record))
    assert differences(sound(was), now) == []
    assert codec.read(codec.write(record)) == record


def differences(was, now, path="$"):
    """Where what was is no more."""
    if isinstance(was, dict) and isinstance(now, dict):
        pairs = [(was[key], now.get(key, math.nan), f"{path}.{key}") for key in was]
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        pairs = [(*each, f"{path}[{place}]") for place, each in enumerate(zip(was, now, strict=True))]
    else:
        return [] if same(was, now) else [path]
    return [found for pair in pairs for found in differences(*pair)]


def same(was, now):
    """Whether two values are one; a whole number may have become the nearest with a point."""
    if isinstance(now, float) and isinstance(was, int | float):
        return float(was) == now or (math.isnan(was) and math.isnan(now))
    return was == now


def test_the_settings_of_version_1_mean_what_they_meant():
    found = read("settings-lora.json")
    assert found.storyboard.shots == (Shot("a", seconds=0.3), Shot('b "quoted"'))
    assert found.storyboard.global_caption == "Ein Haus am Meer, 海边的房子."
    assert (found.storyboard.fps, found.storyboard.seed, found.storyboard.title) == (30, 5, "T")
    assert (found.frames, found.cuts, found.height, found.width, found.fps) == (9, (5,), 32, 48, 15)
    assert (found.steps, found.cfg, found.seed, found.negative) == (4, 2.3456789, 2**63 - 1, "红 \\ \n")
    assert (found.attention, found.dtype, found.device, found.model) == ("full", "bf16", "cuda", "0123456789abcdef")
    assert found.plan["rungs"] == [{"at": "step 2", "change": "2 resident blocks"}]
    high = AddedLora("high_noise", "fast.safetensors", "123", 0.8)
    assert found.lora == (high, AddedLora("low_noise", "slow.safetensors", "456", -1.0))
    assert (found.cache, found.cfg_until) == ((0.1, 0.0), 0.5)
    assert found.computing == {"kernel": "sdpa", "linear": "fp8", "fused": "on"}
    earliest = read("settings-earliest.json")
    assert (earliest.lora, earliest.cache, earliest.cfg_until, earliest.computing) == ((), (0.0, 0.0), 1.0, {})
    assert read("settings-until.json").cfg_until == 0.5
    assert read("settings-cache.json").cache == (1.0, 1.0)
    assert read("settings-demo.json").storyboard.shot_count == len(read("settings-demo.json").cuts) + 1


def test_a_run_of_version_1_means_what_it_meant():
    run, state = read("run-cache.json"), read("state-cache.json")
    assert (run.out, run.opening.model, run.opening.kernel) == ("../stopped-cache.mp4", None, "sdpa")
    assert (run.plan.chunks, run.plan.resident, run.plan.tile) == (Chunks(8192, 4096), 5, None)
    assert run.plan.text == PhasePlan(17721344, 0, 663552, 663552)
    assert run.circumstances["threads"] == "2"
    assert (run.settings.seed, run.settings.cache) == (11, (1.0, 1.0))
    assert (state.done, state.made_with) == (4, "holo-lite 0.1.0, torch 2.13.0+cpu")
    assert isinstance(state.cache, StoredCache)
    assert state.cache.file == "cache-4.safetensors"
    assert all(math.isfinite(number) for number in state.cache.numbers.values())
    assert read("state-nf4.json").cache is None


def test_a_manifest_of_version_1_means_what_it_meant():
    found = read("model-nf4.json")
    part = found.components["high_noise"]
    assert (found.scheme, found.attention, found.defaults.frames) == ("nf4", "sparse", 49)
    assert part.config["dim"] == 192
    assert (part.shards[0].file, part.shards[0].nbytes) == ("high_noise/rest.safetensors", 724992)
    assert (part.shards[0].block, part.shards[1].block) == (None, 0)
    assert {tensor.scheme for tensor in part.tensors.values()} == {"nf4", "plain"}
    assert ColourMap.read(found.sections["preview"]) == ColourMap.read(json.loads(text_of("cache-colours.json")))
    assert ColourMap.read(found.sections["preview"]) is not None


@pytest.mark.parametrize(
    ("part", "kind", "key", "entry"),
    [
        (RATES, Numbers, "this CPU, PyTorch 2.13.0", (1.25e12, 0.5e12)),
        (RATES, Numbers, "this CPU, PyTorch 2.13.0, int8", (3.5e12,)),
        (RUNGS, SmallerPlan, "b" * 24, SmallerPlan((8192, 4096), False, 1, 0, True, (8, 16))),
        (
            *(KERNELS, KernelTimes),
            "NVIDIA H200, (9, 0), torch 2.13.0, cudnn 91900, sdpa, flash 2.8, 40 heads of 128 bf16",
            KernelTimes({"sdpa": 0.012, "flash": 0.01}, {"sage": "it is not installed"}),
        ),
    ],
)
def test_a_cache_of_version_1_is_used(tmp_path, part, kind, key, entry):
    (tmp_path / f"{part.name}.json").write_text(text_of(f"cache-{part.name}.json"))
    assert table(part, tmp_path, kind).get(key) == entry


def test_a_journal_of_version_1_is_taken_up(tmp_path):
    (tmp_path / "journal.jsonl").write_text(text_of("journal.jsonl"))
    found = Journal.read(tmp_path)
    assert found.begun["tools"] == {"holo-lite": "0.1.0", "torch": "2.13.0"}
    assert [shard["nbytes"] for shard in found.shards.values()] == [724992, 286720]
    block = found.shards["high_noise/block-00.safetensors"]
    assert block["errors"] == {"blocks.0.ffn.0.weight": 0.09331741976655274}
    assert found.sources["/models/sparse_high_noise.safetensors"]["sha256"] == "ff" * 32


# --- a shape changes by a new version only ---------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.kind.__name__)
def test_a_record_has_the_shape_of_its_version_and_an_upgrade_from_each_before(codec):
    assert list(complaints(codec, json.loads(FILE.read_text()))) == []


THIRD = Origin(version=3, runs_from=2)


@dataclass(frozen=True)
class Lens:
    mm: Positive
    name: str = ""


@dataclass(frozen=True)
class Camera:
    lens: Lens
    more: Mapping[str, Lens] = field(default_factory=dict)
    origin: Origin = FIRST


@dataclass(frozen=True)
class LaterCamera:
    lenses: tuple[Lens, ...]
    more: Mapping[str, Lens] = field(default_factory=dict)
    origin: Origin = THIRD


def to_2(found):
    return {**found, "lens": {"mm": int(found["lens"]["mm"])}}


def to_3(found):
    return {"lenses": [found["lens"]], "more": found.get("more", {})}


UPGRADES = MappingProxyType({1: to_2, 2: to_3})


def test_a_changed_shape_a_version_without_an_upgrade_and_a_lost_shape_are_told():
    shapes = {"Camera": {"1": shape_of(Codec(Camera))}, "LaterCamera": {"3": shape_of(Codec(LaterCamera))}}
    assert list(complaints(Codec(Camera), shapes)) == []
    changed = copy.deepcopy(shapes)
    changed["Camera"]["1"]["$.lens"]["mm"] = "int"
    assert "its shape changed" in next(complaints(Codec(Camera), changed))
    assert "of version 1 is not in shapes.json" in next(complaints(Codec(Camera), {}))
    told = list(complaints(Codec(LaterCamera, upgrades={1: to_2}), shapes))
    assert ["[3] are kept" in told[0], "upgrades of versions [1]" in told[1]] == [True, True]


def test_an_old_record_is_brought_up_to_date_a_version_at_a_time():
    codec = Codec(LaterCamera, upgrades=UPGRADES)
    found = codec.read('{"version": 1, "lens": {"mm": "35"}}')
    assert found == LaterCamera((Lens(35),))
    assert json.loads(codec.write(found)) == {
        "version": 3,
        "runs_from": 2,
        "lenses": [{"mm": 35, "name": ""}],
        "more": {},
    }
    for damaged in ({}, {"lens": 3}, {"lens": {"mm": "x"}}, {"lens": None}):
        with pytest.raises(RecordError, match="not of version 1"):
            codec.read(json.dumps({"version": 1, **damaged}))


def test_a_version_that_may_run_from_a_later_record_keeps_what_it_does_not_know():
    found = Codec(Camera).read('{"version": 4, "runs_from": 1, "lens": {"mm": 35, "iris": 8}, "film": [1]}')
    assert found.origin == Origin(4, 1, ((("lens", "iris"), 8), (("film",), [1])))
    wider = dataclasses.replace(found, lens=Lens(20))
    assert json.loads(Codec(Camera).write(wider)) == {
        "version": 4,
        "runs_from": 1,
        "film": [1],
        "more": {},
        "lens": {"mm": 20, "name": "", "iris": 8},
    }


def test_a_version_that_may_not_run_from_a_later_record_may_look_at_it():
    for text in (
        '{"version": 2, "runs_from": 2, "lens": {"mm": 35}}',
        '{"version": 2, "lens": {"mm": 35}}',
        '{"version": 2, "runs_from": 1, "lens": 35}',
    ):
        with pytest.raises(LaterRecordError, match=r"version 2\); update holo-lite to go on with it; it can"):
            Codec(Camera).read(text)
    assert Codec(Camera).read('{"version": 2, "lens": {"mm": 35}}', to_run=False).lens == Lens(35)


def test_a_fault_is_placed_to_the_key():
    lenses = {f"lens {number}": {"mm": 35} for number in range(40)} | {"lens 41": {"mm": 0}}
    with pytest.raises(RecordError, match=r"^expected 'int' >= 1 at \$\.more\['lens 41'\]\.mm$"):
        Codec(Camera).read(json.dumps({"version": 1, "lens": {"mm": 1}, "more": lenses}))


# --- damage ----------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
HUGE = '"HUGE"'  # replaced in the text: Python would not write it
HOSTILE = {
    HUGE: "9" * 5000,
    '"-HUGE"': "-" + "9" * 30,
    '"DEEP"': "[" * 100_000,
    '"NESTED"': "[" * 500 + "]" * 500,
    '"HALF"': '"\\ud800"',
    '"NAN"': "NaN",
    '"INFINITY"': "-Infinity",
}


def places(found, way=()):
    yield way
    inside = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    for key, value in inside:
        yield from places(value, (*way, key))


@settings(deadline=None, max_examples=400)
@given(data=st.data(), name=st.sampled_from(WRITTEN))
def test_a_damaged_record_is_read_rightly_or_is_the_one_error(data, name):
    codec, found = KINDS[name.split("-")[0]], json.loads(text_of(name))
    *way, last = data.draw(st.sampled_from([place for place in places(found) if place]))
    place = found
    for key in way:
        place = place[key]
    value = data.draw(JSON | st.sampled_from([json.loads(name) for name in HOSTILE]))
    place[last] = value
    text = json.dumps(found)
    for marker, hostile in HOSTILE.items():
        text = text.replace(marker, hostile)
    record, error = outcome(codec, text)
    if record is None:
        assert error.isprintable()
        assert "$" in error or "written by a later holo-lite" in error
        return
    assert differences(sound(parse(text)), json.loads(codec.write(record))) == []


def outcome(codec, text):
    """The record in a text, or the one error there may be."""
    try:
        return codec.read(text), ""
    except RecordError as error:
        return None, str(error)


def sound(found):
    """As it is compared: the version a record is written with, and one in it, is today's."""
    parts = {
        key: sound(value) if key == "settings" and isinstance(value, dict) else value
        for key, value in found.items()
    }
    return {key: value for key, value in parts.items() if key not in VERSIONS}


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_record_at_all_is_the_one_error(content):
    for codec in CODECS:
        with pytest.raises(RecordError):
            codec.read(content)


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b"9" * 5000, b'{"shard": {"file": 1}}', b'{"shard": null}', b"\xff"]
)
def test_a_line_that_is_none_of_a_journal_is_as_if_not_written(tmp_path, line):
    (tmp_path / "journal.jsonl").write_bytes(text_of("journal.jsonl").encode() + line + b"\n")
    found = Journal.read(tmp_path)
    assert (len(found.shards), len(found.sources)) == (2, 1)
