"""Weights that are not what was written are told by name before anything made with them is kept."""

import os
import shutil
import threading
import time
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from toy_files import toy_model

from holo_lite import ModelOptions, Options, Pipeline, Shot, Storyboard
from holo_lite.errors import CheckpointError
from holo_lite.events import FrameDone, PhaseStarted, StepDone
from holo_lite.runs.folder import RunFolder
from holo_lite.system.cache_folder import CACHE_VARIABLE
from holo_lite.tiny.model import tiny_model
from holo_lite.weights import audit as audit_module
from holo_lite.weights.audit import Audit
from holo_lite.weights.folder import open_folder
from holo_lite.weights.manifest import read_manifest

BOARD = Storyboard("[character1] is a red circle.", (Shot("Wide shot of [character1]."), Shot("Close-up.")))
SMALL = Options(frames=5, height=16, width=16, steps=3)  # two steps of the first expert, one of the second
SHARDS = [shard.file for part in read_manifest(tiny_model()).components.values() for shard in part.shards]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A converted model to be spoilt; every test mends what it spoils."""
    return shutil.copytree(tiny_model(), tmp_path_factory.mktemp("audit") / "model")


@pytest.fixture(autouse=True, params=[1, 3], ids=["one thread", "three threads"])
def hands(request, monkeypatch):
    """However many cores there are."""
    monkeypatch.setattr(audit_module, "hands", lambda: request.param)


@contextmanager
def flipped(path, place=-5000):
    """One byte of a file is another while this is entered."""
    content = path.read_bytes()
    changed = bytearray(content)
    changed[place] ^= 1
    path.write_bytes(changed)
    try:
        yield
    finally:
        path.write_bytes(content)


def told(path):
    return f"{path}: has changed since it was written (its sha256 differs); copy the file again, or "


# --- what is found -------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(SHARDS), share=st.floats(0, 1))
def test_a_byte_that_changed_anywhere_is_found_and_its_file_named(model, name, share):
    path, whole = model / name, set()
    part = path.parent
    with Audit(whole) as audit:
        audit.settle(part)
    place = int(share * (path.stat().st_size - 1))
    with flipped(path, place), Audit(whole) as audit, pytest.raises(CheckpointError) as caught:
        audit.settle(part)
    assert str(caught.value).startswith(told(path))
    with Audit(whole) as audit:
        audit.settle(part)


def test_what_is_whole_is_hashed_once_and_again_when_it_is_written_again(model, monkeypatch):
    hashed, look = [], audit_module._Hashing._hash
    monkeypatch.setattr(
        audit_module._Hashing, "_hash", lambda *given: (hashed.append(given[1].name), look(*given))[1]
    )
    whole, part = set(), model / "text_encoder"
    for _ in range(2):
        with Audit(whole) as audit:
            audit.settle(part)
    assert sorted(hashed) == ["block-00.safetensors", "block-01.safetensors", "rest.safetensors"]
    with flipped(part / "block-00.safetensors"):
        pass
    with Audit(whole) as audit:
        audit.settle(part)
    assert hashed[3:] == ["block-00.safetensors"]


def test_a_shard_that_is_gone_is_named(model):
    path = model / "vae" / "diffusion_pytorch_model.safetensors"
    path.rename(model / "aside")
    try:
        with (
            Audit() as audit,
            pytest.raises(CheckpointError, match=r"diffusion_pytorch_model\.safetensors: cannot"),
        ):
            audit.settle(path.parent)
    finally:
        (model / "aside").rename(path)


def test_a_fault_that_is_known_is_told_though_another_part_was_asked_for(model):
    """What the second expert would say after half an hour is said after the first step."""
    low = model / "low_noise" / "block-03.safetensors"
    with flipped(low), Audit() as audit:
        audit.begin(model / "low_noise", model / "high_noise")
        while any(thread.name == "audit" for thread in threading.enumerate()):
            time.sleep(0.001)
        with pytest.raises(CheckpointError) as caught:
            audit.settle(model / "high_noise")
    assert str(caught.value).startswith(told(low))


def test_the_end_of_a_run_ends_what_is_under_way(model, monkeypatch):
    monkeypatch.setattr(audit_module, "PIECE", 1)  # which would take a minute
    with Audit() as audit:
        audit.begin(model / "high_noise")
        (thread,) = (thread for thread in threading.enumerate() if thread.name == "audit")
    assert not thread.is_alive()
    assert not audit.whole


def test_files_that_nobody_hashed_are_left_alone(cache):
    folder = open_folder(toy_model(cache))
    with Audit() as audit:
        audit.begin(*folder.weight_paths)
        assert not any(thread.name == "audit" for thread in threading.enumerate())
        audit.settle(folder.high_noise)


# --- in a run ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipeline(model):
    return Pipeline.load(model, ModelOptions(device="cpu"))


def films(out):
    return out.read_bytes(), out.with_suffix(".png").read_bytes()


@pytest.fixture(scope="module")
def whole(pipeline, tmp_path_factory):
    """The films of an undisturbed run."""
    out = tmp_path_factory.mktemp("whole") / "a.mp4"
    list(pipeline.generate(BOARD, out, SMALL))
    return films(out)


@pytest.mark.parametrize(
    ("name", "phase", "saved"),
    [
        ("text_encoder/block-01", "text", 0),
        ("high_noise/block-02", "denoise", 0),
        ("low_noise/rest", "denoise", 2),
        ("vae/diffusion_pytorch_model", "decode", 3),
    ],
)
def test_nothing_made_with_changed_weights_is_kept(
    pipeline, model, whole, tmp_path, monkeypatch, name, phase, saved
):
    """Mended, the run goes on to the bits of one that nobody disturbed. It may be told earlier, never later."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    path, out, seen = model / f"{name}.safetensors", tmp_path / "out" / "a.mp4", []
    run = RunFolder.beside(out)
    with flipped(path), pytest.raises(CheckpointError) as caught:
        seen.extend(pipeline.generate(BOARD, out, SMALL, run=run.path))
    assert str(caught.value).startswith(told(path))
    phases = [event.phase for event in seen if isinstance(event, PhaseStarted)]
    order = ["text", "denoise", "load", "decode"]
    assert order.index(phases[-1]) <= order.index(phase)
    assert not any(isinstance(event, FrameDone) for event in seen)
    done = [event.done for event in seen if isinstance(event, StepDone)]
    state = run.state() if run.is_begun else None
    assert (state[0].done if state else 0) == len(done) <= saved
    assert list(tmp_path.glob("cache/prompts/*")) == [] or phase != "text"
    assert not out.exists()
    list(pipeline.generate(BOARD, out, SMALL, run=run.path))
    assert films(out) == whole


def written_again(path, how):
    """Change one byte of a file as somebody might who does not want to be noticed, or does not think of it."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-5000] ^= 1
    if how == "another file":
        (path.parent / "new").write_bytes(content)
        (path.parent / "new").replace(path)
    else:
        with path.open("r+b") as file:
            file.write(content)
    if how == "in place, its time put back":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("how", ["in place", "in place, its time put back", "another file"])
@pytest.mark.parametrize(
    ("name", "after"),
    [("high_noise/block-02", 1), ("vae/diffusion_pytorch_model", 1), ("vae/diffusion_pytorch_model", 3)],
)
def test_weights_that_change_while_a_run_uses_them_are_not_used(pipeline, model, whole, tmp_path, name, after, how):
    """They were hashed before, and were right then."""
    path, out = model / f"{name}.safetensors", tmp_path / "a.mp4"
    kept, run = path.read_bytes(), RunFolder.beside(tmp_path / "a.mp4")

    def disturbed():
        done = 0
        for event in pipeline.generate(BOARD, out, SMALL, run=run.path):
            done += isinstance(event, StepDone)
            if isinstance(event, StepDone if after < 3 else FrameDone) and done == after:
                written_again(path, how)

    try:
        with pytest.raises(CheckpointError, match=f"{path.name}: (was written to|is not what was written)"):
            disturbed()
    finally:
        path.write_bytes(kept)
    assert not out.exists()
    list(pipeline.generate(BOARD, out, SMALL, run=run.path))
    assert films(out) == whole


def test_a_link_to_a_file_is_no_change(model):
    path = model / "vae" / "diffusion_pytorch_model.safetensors"
    with Audit() as audit:
        audit.settle(path.parent)
        os.link(path, model / "linked")
        try:
            audit.settle(path.parent)
        finally:
            (model / "linked").unlink()


def test_released_files_that_are_written_to_are_noticed(toy_copy):
    folder = open_folder(toy_copy)
    with Audit() as audit:
        audit.settle(folder.high_noise)
        folder.high_noise.write_bytes(folder.high_noise.read_bytes())
        with pytest.raises(CheckpointError, match="was written to while the run used it"):
            audit.settle(folder.high_noise)
