"""What is kept of a run: whole or not there, tied to its run, and told by name where it was harmed."""

import dataclasses
import errno
import json
import math
import os
from importlib import metadata
from pathlib import Path

import pytest
import torch
from dying import changes as calls_of, killed
from hypothesis import given, settings, strategies as st

from holo_lite.errors import OutputError, RunError
from holo_lite.events import GoingOn, NotSaved
from holo_lite.model.clip import Chunks
from holo_lite.opening.options import ModelOptions, RecordedOptions
from holo_lite.plan.plan import PhasePlan, Plan, Rung
from holo_lite.render.keeper import FolderKeeper
from holo_lite.runs.folder import RunFolder
from holo_lite.runs.record import RECORD as RUN_RECORD, Record, changes, circumstances, difference
from holo_lite.runs.sealed import read_sealed, write_sealed
from holo_lite.runs.state import State
from holo_lite.runs.state_facts import STATE_FACTS, steps_done
from holo_lite.sampling.frozen_shots import Frozen, FrozenShot
from holo_lite.settings import SETTINGS as SETTINGS_RECORD, AddedLora, RunSettings
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.system.records import Origin

SETTINGS = RunSettings(
    storyboard=Storyboard("Ein Haus am Meer, 海边的房子.", (Shot("a", seconds=0.3), Shot("b")), title='"quoted"'),
    frames=9,
    cuts=(5,),
    height=32,
    width=48,
    fps=29.97002997002997,
    steps=4,
    cfg=2.3456789,
    seed=2**63 - 1,
    negative="红 \\ \n",
    attention="sparse",
    dtype="fp32",
    device="cpu",
    model="abc",
    made_with="holo-lite 1",
    lora=(AddedLora("high_noise", "fast.safetensors", "123", 0.8),),
    computing={"kernel": "sdpa", "linear": "plain", "fused": "off"},
)
PLAN = Plan(
    profile="8gb",
    scheme="nf4",
    device="cuda",
    budget=7 * 10**9,
    chunks=Chunks(1024, 512),
    joint=False,
    slots=2,
    resident=2,
    resident_other=1,
    blocks=40,
    pinned_cache_blocks=3,
    tile=(32, 48),
    tile_caches=12,
    text=PhasePlan(1, 2, 3, 4),
    high_noise=PhasePlan(5),
    low_noise=PhasePlan(6),
    decode=PhasePlan(7),
    rungs=(Rung("text", "no pinned memory"), Rung("step 2", "2 resident blocks")),
    step_cache=True,
    skipped=(1, 2),
)
HERE = {"torch": "2.13.0", "device": "CPU with AVX2", "threads": "1"}
RECORD = Record(
    SETTINGS, PLAN, RecordedOptions(lora={"high_noise": [("/a/fast.safetensors", 0.8)]}), "../a.mp4", HERE
)
SHAPE = (16, 3, 4, 6)


def state(done=1, seed=0, cached=None, plan=PLAN):
    """A state whose step cache is that of step `cached`."""
    draw = torch.Generator().manual_seed(seed + done)
    cache = {}
    if cached is not None:
        residual = torch.randn(5, 8, generator=torch.Generator().manual_seed(cached)).bfloat16()
        cache = {"step": float(cached), "rate": 1 / 3, "residual 0": residual}
    return State(done, torch.randn(SHAPE, generator=draw), plan, cache, "holo-lite 1", HERE)


def same(one, other):
    """Whether two states are one, to the bit."""
    plain = [dataclasses.replace(each, latents=None, cache={}) for each in (one, other)]
    tensors = [{"latents": each.latents, **each.cache} for each in (one, other)]
    return plain[0] == plain[1] and equal(*tensors)


def equal(one, other):
    return one.keys() == other.keys() and all(
        a.dtype == b.dtype and torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in ((one[name], other[name]) for name in one)
    )


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "a.mp4.run")
    folder.begin(RECORD)
    return folder


def named(error, path):
    """The error is one line and begins with the file."""
    assert "\n" not in str(error)
    return str(error).startswith(f"{path}: ")


# --- what is written comes back --------------------------------------------------------------------


def test_a_record_comes_back_to_the_letter(folder):
    found = folder.record()
    assert (found.settings, found.plan, found.out, found.circumstances) == (SETTINGS, PLAN, "../a.mp4", HERE)
    assert found.opening == RECORD.opening
    assert folder.video(found) == folder.path.parent / "a.mp4"


def test_a_file_name_that_is_no_text_can_be_recorded(tmp_path):
    folder = RunFolder(tmp_path / "a.run")
    folder.begin(dataclasses.replace(RECORD, out=os.fsdecode(b"\xff.mp4")))
    assert os.fsencode(folder.begun().out) == b"\xff.mp4"


TENSORS = st.builds(
    lambda shape, dtype, seed: (100 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).to(dtype),
    st.lists(st.integers(1, 5), max_size=3),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.int8]),
    st.integers(0, 99),
)
NAMES = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=9).map("cache {}".format)


@settings(deadline=None)
@given(
    cache=st.dictionaries(NAMES, TENSORS | st.floats(allow_nan=False), max_size=4),
    done=st.integers(1, 50),
    tile=st.none() | st.tuples(st.integers(8, 60), st.integers(8, 60)),
    rungs=st.lists(st.builds(Rung, st.text(max_size=5), st.text(max_size=5)), max_size=3).map(tuple),
)
def test_a_state_comes_back_to_the_bit(tmp_path_factory, cache, done, tile, rungs):
    """Whatever a step cache remembers; numbers alone, without a tensor, are no cache."""
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    folder.begin(RECORD)
    if not any(isinstance(value, torch.Tensor) for value in cache.values()):
        cache = {}
    saved = dataclasses.replace(state(done, plan=dataclasses.replace(PLAN, tile=tile, rungs=rungs)), cache=cache)
    folder.save(saved, None)
    assert same(folder.state()[0], saved)


def test_a_state_on_no_contiguous_memory_and_without_gradients_comes_back(folder):
    with torch.inference_mode():
        latents = torch.arange(24.0).reshape(2, 3, 4).transpose(0, 2)
    folder.save(dataclasses.replace(state(), latents=latents), None)
    assert torch.equal(folder.state()[0].latents, latents)


def test_the_last_state_is_the_one_that_stands_and_nothing_lies_beside_it(folder):
    stored = None
    for done, cached in ((1, 0), (2, 0), (3, 2), (4, 3)):
        stored = folder.save(state(done, cached=cached), stored)
        assert same(folder.state()[0], state(done, cached=cached))
        assert sorted(path.name for path in folder.path.iterdir()) == [stored.file, "run.json", "state.safetensors"]
    folder.save(state(5), stored)
    assert sorted(path.name for path in folder.path.iterdir()) == ["run.json", "state.safetensors"]


def test_a_cache_that_did_not_change_is_not_written_again(folder):
    """It is a thousand times the latents."""
    stored = folder.save(state(1, cached=0), None)
    path = folder.path / stored.file
    before = path.stat()
    assert folder.save(state(2, cached=0), stored) == stored
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert folder.save(state(3, cached=2), stored).file != stored.file
    assert not path.exists()


# --- killed at any moment --------------------------------------------------------------------------


def test_killed_at_every_call_a_folder_holds_the_state_before_or_the_one_after(tmp_path):
    """Every write, fsync, rename and removal, before it and behind it, and writes torn midway, too."""
    states = [state(1, cached=0), state(2, cached=1), state(3, cached=1)]

    def life(folder):
        folder.begin(RECORD)
        stored = None
        for step in states:
            stored = folder.save(step, stored)
        folder.remove()

    kinds = calls_of(lambda: life(RunFolder(tmp_path / "counted")))
    assert {"mkdir", "write", "fsync", "replace", "unlink", "rmdir"} == set(kinds)
    points = [(call, when) for call in range(len(kinds)) for when in ("before", "behind")]
    points += [(call, "midway") for call, kind in enumerate(kinds) if kind == "write"]
    last = 0
    for call, when in sorted(points):
        folder = RunFolder(tmp_path / f"{call}-{when}")
        assert killed(lambda folder=folder: life(folder), call, when)
        record = folder.record()
        found = folder.state() if record else None
        if found:
            assert same(found[0], states[found[0].done - 1])
            assert found[0].done >= last, "an older state than an earlier kill left"
            last = found[0].done
        elif last:
            assert record is None, "a run that had a state has none"
        if record:  # whatever was left goes on
            folder.save(state(4, cached=3), found[1] if found else None)
            assert same(folder.state()[0], state(4, cached=3))
        else:
            folder.begin(RECORD)
            assert folder.state() is None
    assert last == 3
    folder.remove()
    assert not folder.path.exists()


# --- harmed ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The files of a run, by name."""
    folder = RunFolder(tmp_path_factory.mktemp("harmed") / "a.mp4.run")
    folder.begin(RECORD)
    folder.save(state(1, cached=0), None)
    return {path.name: path.read_bytes() for path in folder.path.iterdir()}


FILES = ("state.safetensors", "cache-1.safetensors")


@given(data=st.data(), name=st.sampled_from(FILES))
def test_a_byte_that_changed_is_noticed_wherever_it_lies_and_its_file_is_named(
    tmp_path_factory, written, data, name
):
    folder = RunFolder(tmp_path_factory.mktemp("harmed"))
    content = bytearray(written[name])
    place = data.draw(st.integers(0, len(content) - 1) | st.sampled_from([0, 7, 8, len(content) - 1]))
    content[place] ^= data.draw(st.integers(1, 255))
    for other, whole in written.items():
        (folder.path / other).write_bytes(content if other == name else whole)
    with pytest.raises(RunError) as caught:
        folder.state()
    assert named(caught.value, folder.path / name)
    assert "is damaged, or was changed" in str(caught.value)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("length", [0, 7, 4096, -1, +1])
def test_a_torn_file_is_named(tmp_path, written, name, length):
    folder = RunFolder(tmp_path)
    for other, whole in written.items():
        torn = whole + b"\0" if length == 1 else whole[:length]
        (tmp_path / other).write_bytes(torn if other == name else whole)
    with pytest.raises(RunError) as caught:
        folder.state()
    assert named(caught.value, tmp_path / name)
    assert str(caught.value).endswith(f"remove the folder {tmp_path} to start over")


def test_a_cache_that_is_gone_is_named(folder):
    stored = folder.save(state(1, cached=0), None)
    (folder.path / stored.file).unlink()
    with pytest.raises(RunError) as caught:
        folder.state()
    assert named(caught.value, folder.path / stored.file)


def test_a_state_of_another_run_is_not_gone_on_with(folder, tmp_path):
    other = RunFolder(tmp_path / "other.run")
    other.begin(dataclasses.replace(RECORD, settings=dataclasses.replace(SETTINGS, seed=1)))
    other.save(state(), None)
    (other.path / "state.safetensors").rename(folder.path / "state.safetensors")
    with pytest.raises(RunError, match=r"belongs to another run than the run\.json next to it"):
        folder.state()


def test_a_record_that_was_edited_is_not_gone_on_with(folder):
    folder.save(state(), None)
    path = folder.path / "run.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"steps": 4', '"steps": 9'), encoding="utf-8")
    for look in (folder.state, folder.begun, folder.record):  # no video is looked for under a name that was changed
        with pytest.raises(RunError, match="belongs to another run"):
            look()


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\xff\xfe", b"[1]", b"{}", b"null", b"[" * 100_000),
        *(b'{"holo_lite_run": 1, "settings": {}}', b'{"holo_lite_run": 0}', b'{"holo_lite_run": "2"}'),
    ],
)
def test_a_record_that_is_none_is_named(folder, content):
    (folder.path / "run.json").write_bytes(content)
    with pytest.raises(RunError) as caught:
        folder.record()
    assert named(caught.value, folder.path / "run.json")
    assert " at $" in str(caught.value)
    assert str(caught.value).endswith(f"remove the folder {folder.path} to start over")


@pytest.mark.parametrize("later", [(), ("settings",)])
def test_nobody_is_told_to_remove_a_run_of_a_later_version(folder, later):
    path = folder.path / "run.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    part = found["settings"] if later else found
    version = (SETTINGS_RECORD if later else RUN_RECORD).current.version + 1
    part |= {"version" if later else "holo_lite_run": version, "runs_from": version}
    path.write_text(json.dumps(found))
    with pytest.raises(RunError) as caught:
        folder.record()
    said = f"was written by a later holo-lite (record version {version}); update holo-lite to go on with it"
    assert str(caught.value) == f"{path}: {said}; it can still be inspected"
    part |= {"runs_from": 1}
    path.write_text(json.dumps(found))
    assert folder.record().settings.seed == SETTINGS.seed


@pytest.mark.parametrize("more", [{}, {"runs_from": 1, "plan": "in another form"}])
def test_nobody_is_told_to_remove_a_state_of_a_later_version(folder, more):
    """Neither where it says that this one is too old, nor where this one cannot read it."""
    folder.save(state(3, cached=0), None)
    path = folder.path / "state.safetensors"
    tensors, facts = read_sealed(path)
    version = STATE_FACTS.current.version + 1
    later = json.loads(facts["state"]) | {"version": version, "runs_from": version, **more}
    write_sealed(path, tensors, {"state": json.dumps(later)})
    for look in (folder.state, folder.begun):
        with pytest.raises(RunError) as caught:
            look()
        said = f"was written by a later holo-lite (record version {version}); update holo-lite to go on with it"
        assert str(caught.value) == f"{path}: {said}; it can still be inspected"
    assert steps_done(folder.path) == (None if more else 3)


@pytest.mark.parametrize("place", [("opening", "shell"), ("plan", "colour"), ("settings", "sound")])
def test_what_is_not_known_in_a_record_is_kept(folder, place):
    path = folder.path / "run.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    found[place[0]][place[1]] = "x"
    path.write_text(json.dumps(found))
    record = folder.record()
    assert json.loads(record.to_json()) == found
    assert (record.settings.seed, record.plan, record.opening) == (SETTINGS.seed, PLAN, RECORD.opening)


def test_what_is_somebody_elses_stays(folder):
    folder.save(state(1, cached=0), None)
    (folder.path / "notes.txt").write_text("mine")
    folder.remove()
    assert [path.name for path in folder.path.iterdir()] == ["notes.txt"]


# --- found by name ---------------------------------------------------------------------------------


def test_a_run_is_found_by_its_folder_and_by_its_video(folder):
    for name in ("a.mp4.run", "a.mp4"):
        assert RunFolder.named(folder.path.parent / name).path == folder.path
    (folder.path.parent / "b.mp4").touch()
    with pytest.raises(RunError, match=r"b\.mp4: no interrupted run .* here or in b\.mp4\.run, which is finished"):
        RunFolder.named(folder.path.parent / "b.mp4")
    with pytest.raises(
        RunError, match=r"c\.mp4: no interrupted run .* or in c\.mp4\.run; name the video or its \.run folder$"
    ):
        RunFolder.named(folder.path.parent / "c.mp4")


def test_run_and_video_can_be_moved_together(tmp_path):
    folder = RunFolder(tmp_path / "here" / "a.mp4.run")
    folder.begin(dataclasses.replace(RECORD, out=folder.path_to(tmp_path / "here" / "a.mp4")))
    (tmp_path / "here").rename(tmp_path / "there")
    moved = RunFolder(tmp_path / "there" / "a.mp4.run")
    assert moved.video(moved.begun()) == tmp_path / "there" / "a.mp4"


# --- which run it is -------------------------------------------------------------------------------

OTHERS = {
    "storyboard": dataclasses.replace(SETTINGS.storyboard, global_caption="x"),
    "frames": 13,
    "cuts": (9,),
    "height": 48,
    "width": 64,
    "fps": 12.0,
    "steps": 5,
    "cfg": 2.0,
    "seed": 3,
    "negative": "",
    "attention": "full",
    "dtype": "bf16",
    "model": "abd",
    "lora": (),
    "cache": (0.1, 0.0),
    "cfg_until": 0.5,
    "cfg_low": 1.5,
    "shift": 12.0,
    "computing": {"kernel": "sdpa", "linear": "fp8", "fused": "off"},
    "frozen": Frozen((FrozenShot(1, 1, "old.mp4", "abc", 1),)),
    "origin": Origin(2, 2, ((("lens",), 35),)),
}
LAST_BITS = {
    "made_with": "another",
    "plan": {"chunks": [1, 1]},
    "device": "cuda",
    "computing": {"kernel": "flash", "linear": "plain", "fused": "on"},
}


def test_every_setting_either_makes_another_run_or_bears_on_last_bits_only():
    assert {field.name for field in dataclasses.fields(RunSettings)} == OTHERS.keys() | LAST_BITS.keys()
    for name, value in OTHERS.items():
        (said,) = difference(SETTINGS, dataclasses.replace(SETTINGS, **{name: value}))
        assert ("lens" if name == "origin" else name) in said, said
    for name, value in LAST_BITS.items():
        assert difference(SETTINGS, dataclasses.replace(SETTINGS, **{name: value})) == []
    assert difference(SETTINGS, dataclasses.replace(SETTINGS, origin=Origin(3, 3))) == []
    joined = dataclasses.replace(
        SETTINGS, frozen=Frozen(before=81)
    )  # what is in front of a video is not of its run
    assert difference(SETTINGS, joined) == []
    assert difference(SETTINGS, dataclasses.replace(SETTINGS, dtype="bf16")) == ["dtype fp32, now bf16"]


def test_circumstances_name_what_last_bits_depend_on():
    found = circumstances(torch.device("cpu"))
    assert found["torch"].startswith(torch.__version__.split("+")[0])
    assert found["threads"] == str(torch.get_num_threads())
    assert all(found.values())
    assert changes(found, found) == []
    assert changes({"torch": "1", "threads": "8"}, {"torch": "2", "CUDA": "13"}) == [
        "torch 1, now 2",
        "threads 8, now not counted",
        "CUDA not counted, now 13",
    ]


def test_what_computes_beside_torch_is_a_circumstance_where_it_does(monkeypatch):
    def version(package):
        return f"of {package}"

    plain = circumstances(torch.device("cpu"), {"kernel": "sdpa", "linear": "plain", "fused": "off"})
    assert {"sageattention", "triton", "triton-windows"}.isdisjoint(plain)
    monkeypatch.setattr(metadata, "version", version)
    found = circumstances(torch.device("cpu"), {"kernel": "sage", "linear": "int8", "fused": "off"})
    assert (found["kernel"], found["sageattention"]) == ("sage", "of sageattention")
    assert found["triton"] == "of triton"


def test_threads_are_no_circumstance_on_a_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"RTX 9090 {device.index}")
    found = circumstances(torch.device("cuda", 1))
    assert found["device"] == "RTX 9090 1"
    assert {"CUDA", "cuDNN"} <= found.keys()
    assert "threads" not in found


def test_a_model_is_opened_as_it_was_and_elsewhere_computes_as_one_can_there():
    options = ModelOptions("cuda:0", "bf16", kernel="flash-attn-3", compute="fp8", fuse="on")
    opening = RecordedOptions(**vars(options), model="/a")
    assert opening.to_load({}) == opening.to_load({"device": "cuda:0"}) == ("/a", options)
    model, moved = opening.to_load({"device": "cpu", "model": "/b"})
    assert (model, moved.device) == ("/b", "cpu")
    assert (moved.kernel, moved.fuse) == ("auto", "auto")
    assert (moved.dtype, moved.compute) == ("bf16", "fp8"), "more than last bits"


# --- the keeper ------------------------------------------------------------------------------------


def keeper_of(folder, record=RECORD, keep=False):
    return FolderKeeper.take_up(folder, record, keep=keep)


def test_a_run_is_taken_up_after_its_last_step_with_that_steps_plan(tmp_path):
    folder = RunFolder(tmp_path / "a.mp4.run")
    smaller = dataclasses.replace(PLAN, resident=0, rungs=(*PLAN.rungs, Rung("step 2", "0 resident blocks")))
    with keeper_of(folder) as keeper:
        assert [*keeper.begin(), *keeper.save(state(1)), *keeper.save(state(2, plan=smaller))] == []
    free_now = dataclasses.replace(RECORD, plan=dataclasses.replace(PLAN, budget=5, chunks=Chunks(1, 1)))
    keeper = keeper_of(folder, free_now)
    assert keeper.record.plan == dataclasses.replace(smaller, budget=5), "as it was, within what is free now"
    assert [*keeper.begin()] == [GoingOn(folder.path, 2, 4, ())]
    assert same(keeper.take(), state(2, plan=smaller))
    assert keeper.take() is None, "it may be gigabytes, and is held once"
    keeper.finish()
    assert not folder.path.exists()


@pytest.mark.parametrize("profile", ["auto", "8gb", "6gb"])
@pytest.mark.parametrize("device", [HERE["device"], "RTX 9090"])
def test_a_plan_gives_way_only_to_another_device_or_a_profile_that_is_named(tmp_path, profile, device):
    folder = RunFolder(tmp_path / "a.mp4.run")
    eight = dataclasses.replace(RECORD, opening=RecordedOptions(profile="8gb"))
    with keeper_of(folder, eight) as keeper:
        assert [*keeper.begin(), *keeper.save(state())] == []
    other = dataclasses.replace(PLAN, chunks=Chunks(1, 1), rungs=(), skipped=())
    here = {**HERE, "device": device}
    wanted = dataclasses.replace(RECORD, plan=other, opening=RecordedOptions(profile=profile), circumstances=here)
    taken = keeper_of(folder, wanted).record
    gives_way = profile == "6gb" or device == "RTX 9090"
    assert taken.plan.chunks == (Chunks(1, 1) if gives_way else PLAN.chunks)
    assert (taken.plan.rungs, taken.plan.skipped) == (PLAN.rungs, PLAN.skipped), "what was given up, was"
    assert taken.settings.plan["chunks"] == [taken.plan.chunks.attention, taken.plan.chunks.feed_forward]


def test_what_changed_is_told_once_and_stays_in_what_the_run_was_made_with(tmp_path):
    folder = RunFolder(tmp_path / "a.mp4.run")
    with keeper_of(folder) as keeper:
        assert [*keeper.begin(), *keeper.save(state(1))] == []
    moved = dataclasses.replace(RECORD, circumstances={**HERE, "threads": "8"})
    told = []
    for done in (1, 2):
        with keeper_of(folder, moved) as keeper:
            told += keeper.begin()
            assert keeper.record.settings.made_with == "holo-lite 1; after step 1: threads 1, now 8"
            assert [*keeper.save(state(done + 1))] == []
    assert [event.changes for event in told] == [("threads 1, now 8",), ()]


def test_another_run_in_its_place_is_refused_and_nothing_is_touched(tmp_path):
    folder = RunFolder(tmp_path / "a.mp4.run")
    with keeper_of(folder) as keeper:
        assert [*keeper.begin(), *keeper.save(state(1))] == []
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    other = dataclasses.replace(RECORD, settings=dataclasses.replace(SETTINGS, seed=3, negative=""))
    with pytest.raises(RunError) as caught:
        keeper_of(folder, other)
    assert named(caught.value, folder.path)
    assert f"(seed {SETTINGS.seed}, now 3; another negative)" in str(caught.value)
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before


def test_another_run_without_a_step_is_no_loss(tmp_path):
    folder = RunFolder(tmp_path / "a.mp4.run")
    folder.begin(RECORD)
    other = dataclasses.replace(RECORD, settings=dataclasses.replace(SETTINGS, seed=3))
    keeper = keeper_of(folder, other)
    assert [*keeper.begin()] == []
    assert folder.begun().settings.seed == 3


def test_a_run_without_a_step_leaves_nothing_behind(tmp_path):
    with keeper_of(RunFolder(tmp_path / "a.mp4.run")) as keeper:
        assert [*keeper.begin()] == []
        assert keeper.folder.is_begun
    assert list(tmp_path.iterdir()) == []


def test_two_processes_do_not_make_one_video(tmp_path):
    """Nor do they write one state file, which would then be neither's, nor read one that may be half replaced."""
    folder, refused = (
        RunFolder(tmp_path / "a.mp4.run"),
        "another process is making this video; wait for it, or stop it",
    )
    early = keeper_of(folder)
    with keeper_of(folder) as keeper:
        assert [*keeper.begin(), *keeper.save(state(1))] == []
        with pytest.raises(RunError, match=refused):
            early.__enter__()
        with pytest.raises(RunError, match=refused):
            keeper_of(folder)
        assert same(folder.state()[0], state(1))
    with keeper_of(folder):
        pass  # whatever breaks off before it has begun again
    assert sorted(path.name for path in folder.path.iterdir()) == ["run.json", "state.safetensors"]


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError()])
def test_a_disk_that_knows_no_locks_is_used_without(tmp_path, monkeypatch, error):
    def acquire(_):
        raise error

    monkeypatch.setattr("holo_lite.system.folder_lock.FileLock.acquire", acquire)
    with keeper_of(RunFolder(tmp_path / "a.mp4.run")) as keeper:
        assert [*keeper.begin(), *keeper.save(state(1))] == []
    assert keeper.folder.state()[0].done == 1


def test_a_finished_run_stays_if_it_is_to_be_kept(tmp_path):
    with keeper_of(RunFolder(tmp_path / "a.mp4.run"), keep=True) as keeper:
        assert [*keeper.begin(), *keeper.save(state(4))] == []
        keeper.finish()
    assert keeper.folder.state()[0].done == 4


class Full:
    """A disk with room for so many renames, then none."""

    def __init__(self, monkeypatch, room):
        self.room, self.replace = room, os.replace
        monkeypatch.setattr(os, "replace", self)

    def __call__(self, *names):
        self.room -= 1
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.replace(*names)


def test_a_full_disk_is_told_once_and_the_state_before_stays(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "a.mp4.run")
    disk = Full(monkeypatch, room=2)  # the record and the first state
    keeper = keeper_of(folder)
    with keeper:
        assert [*keeper.begin(), *keeper.save(state(1))] == []
        notes = [*keeper.save(state(2)), *keeper.save(state(3))]
        (told,) = notes
        assert (type(told), told.saved) == (NotSaved, 1)
        assert "the disk is full" in told.why
        assert same(folder.state()[0], state(1))
        assert sorted(path.name for path in folder.path.iterdir()) == ["lock", "run.json", "state.safetensors"]
        disk.room = math.inf  # somebody made room
        assert [*keeper.save(state(4))] == []
    assert same(folder.state()[0], state(4))


@pytest.mark.parametrize("saved", [0, 1])
def test_on_a_full_disk_no_cache_stays_that_no_state_names(tmp_path, monkeypatch, saved):
    folder = RunFolder(tmp_path / "a.mp4.run")
    disk = Full(monkeypatch, room=2 + 2 * saved)  # the record, states with their caches, and one more cache
    with keeper_of(folder) as keeper:
        told = [*keeper.begin(), *(note for step in (1, 2) for note in keeper.save(state(step, cached=step)))]
        assert [type(note) for note in told] == [NotSaved]
        assert disk.room < 0
        assert [path.name for path in folder.path.glob("cache-*")] == ["cache-1.safetensors"] * saved
        disk.room = math.inf
        assert [*keeper.save(state(3, cached=3))] == []
    assert same(folder.state()[0], state(3, cached=3))


def test_no_memory_to_write_a_state_with_is_told_and_costs_no_step(tmp_path, monkeypatch):
    def full(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    folder = RunFolder(tmp_path / "a.mp4.run")
    with keeper_of(folder) as keeper:
        assert [*keeper.begin(), *keeper.save(state(1))] == []
        with monkeypatch.context() as patch:
            patch.setattr("holo_lite.runs.state.write_sealed", full)
            (told,) = keeper.save(state(2))
        assert told == NotSaved(f"{folder.path}: there is no memory to write it with", 1)
        assert [*keeper.save(state(3))] == []
    assert same(folder.state()[0], state(3))


def test_a_disk_that_is_full_from_the_beginning_costs_a_line_and_what_fits_later_is_saved(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "a.mp4.run")
    disk = Full(monkeypatch, room=0)
    with keeper_of(folder) as keeper:
        notes = [*keeper.begin(), *keeper.save(state(1))]
        (told,) = notes
        assert (type(told), told.saved) == (NotSaved, 0)
        disk.room = math.inf
        assert [*keeper.save(state(2))] == []
    assert same(folder.state()[0], state(2))


def test_a_folder_that_somebody_removes_is_begun_again(tmp_path):
    folder = RunFolder(tmp_path / "a.mp4.run")
    with keeper_of(folder) as keeper:
        assert [*keeper.begin(), *keeper.save(state(1, cached=0))] == []
        folder.remove()
        assert [*keeper.save(state(2, cached=0))] == []
    assert same(folder.state()[0], state(2, cached=0))


def test_a_file_in_the_folders_place_is_told_and_stays(tmp_path):
    path = tmp_path / "a.mp4.run"
    path.write_text("mine")
    with keeper_of(RunFolder(path)) as keeper:
        notes = [*keeper.begin(), *keeper.save(state(1))]
        (told,) = notes
    assert isinstance(told, NotSaved)
    assert path.read_text() == "mine"


def test_a_place_that_cannot_be_written_is_an_output_error(folder, monkeypatch):
    def replace(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OutputError, match="cannot be written"):
        folder.save(state(), None)
    assert [path.name for path in Path(folder.path).iterdir()] == ["run.json"]
