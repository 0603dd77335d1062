"""The released files come whole, over every fault a hub and its network have; nothing else is asked for."""

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from guard import HANGS
from hub_server import COMMIT, Fault, hub_server
from hypothesis import given, settings, strategies as st

from holo_lite.commands.fetch import _preferred
from holo_lite.config import WAN22
from holo_lite.errors import CheckpointError, FetchError, OutputError
from holo_lite.fetch import hub as hub_module
from holo_lite.fetch.hub import Hub, PassingError
from holo_lite.fetch.order import check_room, order_lines, plan_order
from holo_lite.fetch.run import _alone, fetch
from holo_lite.fetch.transfer import WAITS, TransferPart, download, partial
from holo_lite.fetch.wanted import HOLOCINE, WAN, wanted
from holo_lite.progress import Note, PhaseAdvanced, PhaseStarted
from holo_lite.weights.folder import open_folder

ROOT = Path(__file__).parents[2]
HIGH, LOW = "sparse_high_noise.safetensors", "sparse_low_noise.safetensors"
BYTES = os.urandom(3 * 2**20)


def no_wait(_):
    pass


def repositories(high=BYTES):
    """What both hold, with more than is wanted in each; only files of the same kind in small."""
    small = {"models_t5_umt5-xxl-enc-bf16.pth": b"encoder", "Wan2.1_VAE.pth": b"vae"}
    return {
        HOLOCINE.name: {
            f"HoloCine_dit/sparse/{HIGH}": high,
            f"HoloCine_dit/sparse/{LOW}": b"low",
            "README.md": b"r",
        },
        WAN.name: {**small, "google/umt5-xxl/tokenizer.json": b"{}", "high_noise_model/1.safetensors": b"wan"},
    }


@pytest.fixture
def server():
    with hub_server(repositories()) as hub:
        yield hub


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """No token and no cache of whoever runs the tests."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


def make_default(server, monkeypatch):
    """What HF_ENDPOINT does before the library is imported."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.endpoint)
    template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


def order_of(server, folder):
    return plan_order("sparse", folder, Hub(server.endpoint))


def bring(server, folder):
    """Fetch the high-noise expert, as the order for `folder` has it. Gives the events."""
    item = order_of(server, folder).items[0]
    return list(download(Hub(server.endpoint), item.file, item.target, no_wait))


# --- the whole way ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published_files(published_model):
    """The small model as both repositories hold it."""

    def files(folder):
        found = (path for path in sorted((published_model / folder).rglob("*")) if path.is_file())
        return {path.relative_to(published_model / folder).as_posix(): path.read_bytes() for path in found}

    return {HOLOCINE.name: {**files("HoloCine"), "HoloCine_dit/full/full_high_noise.safetensors": b"x"}} | {
        WAN.name: files("Wan2.2-T2V-A14B")
    }


def in_pieces(name, content, folder):
    """An expert as Wan publishes its own: one shard here, and the index that names it."""
    shard = "diffusion_pytorch_model-00001-of-00001.safetensors"
    size = int.from_bytes(content[:8], "little")
    tensors = [key for key in json.loads(content[8 : 8 + size]) if key != "__metadata__"]
    index = {"metadata": {"total_size": len(content)}, "weight_map": dict.fromkeys(tensors, shard)}
    return {f"{folder}/{shard}": content, f"{folder}/{name}": json.dumps(index).encode()}


def test_the_base_model_is_fetched_in_its_pieces_beside_holocine(run, monkeypatch, tmp_path, published_files):
    holocine, wan = published_files[HOLOCINE.name], dict(published_files[WAN.name])
    for noise, name in (("high", HIGH), ("low", LOW)):
        content = next(each for path, each in holocine.items() if path.endswith(name))
        wan |= in_pieces("diffusion_pytorch_model.safetensors.index.json", content, f"{noise}_noise_model")
    with hub_server({**published_files, WAN.name: wan}) as server:
        make_default(server, monkeypatch)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
        monkeypatch.chdir(tmp_path)
        assert run("fetch", "sparse", "--accept-licence").code == 0
        outcome = run("fetch", "wan22", "--accept-licence")
        assert outcome.code == 0, outcome.err
        assert "Apache-2.0" in outcome.err
        assert HOLOCINE.name not in outcome.err
        assert len(server.ranges("Wan2.1_VAE.pth")) == 1  # the second model has the first one's
        found = open_folder(tmp_path / "models" / "wan22")
        assert found.attention == "wan"
        assert found.defaults == WAN22
        assert outcome.out.splitlines()[0].endswith("--scheme nf4 --attention wan")


def test_a_fetch_that_is_killed_goes_on_and_ends_as_a_model(run, monkeypatch, tmp_path, published_files):
    """The first process dies while the text encoder comes; the second asks for its rest, and for nothing twice."""
    with hub_server(published_files) as server:
        came = threading.Event()
        server.file_faults = [Fault(), Fault(), Fault(after=9 * 2**20, stall=came)]
        environment = {
            **os.environ,
            "HF_ENDPOINT": server.endpoint,
            "HF_TOKEN": "hf_mine",
            "HF_HOME": str(tmp_path),
        }
        words = [sys.executable, ROOT / "cli.py", "fetch", "sparse", "--into", "model", "--accept-licence"]
        with subprocess.Popen(words, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as first:
            part = None
            while part is None or part.stat().st_size < 9 * 2**20:
                assert first.poll() is None, first.stderr.read()
                part = next((tmp_path / "model").glob(".models_t5*.part"), None)
            first.send_signal(signal.SIGKILL)
            first.wait(HANGS)
        came.set()
        assert {token for path, _, token in server.asked if path in published_files} == {"Bearer hf_mine"}
        assert {token for path, _, token in server.asked if "." in Path(path).name[-12:] and "/" not in path} <= {
            None
        }

        make_default(server, monkeypatch)
        outcome = run("fetch", "sparse", "--into", "model", "--accept-licence")
        assert outcome.code == 0, outcome.err
        assert server.ranges("models_t5_umt5-xxl-enc-bf16.pth")[1] >= 9 * 2**20 - 2**20
        assert len(server.ranges(HIGH)) == len(server.ranges("Wan2.1_VAE.pth")) == 1
        assert server.ranges("full_high_noise.safetensors") == []

        told = run("fetch", "sparse", "--into", "model", "--accept-licence", "--progress", "json")
        records = [json.loads(line) for line in told.out.splitlines()]
        assert [records[0]["kind"], records[-1]["kind"]] == ["order", "fetched"]
        assert records[0]["room"] == 0 < records[0]["bytes"]
    assert open_folder(tmp_path / "model").attention == "sparse"
    for item in wanted("sparse"):
        files = published_files[item.repository.name]
        (content,) = (files[path] for path in files if path.endswith(item.path))
        assert (tmp_path / "model" / item.path).read_bytes() == content
    scheme = _preferred()
    assert outcome.out.splitlines() == [
        f"next           holo-lite quantize model model-{scheme} --scheme {scheme}",
        f"then           holo-lite generate STORYBOARD --model model-{scheme}",
    ]
    said = outcome.err.splitlines()
    assert "is there" in said[0]
    assert any(line.startswith(f"licence of {HOLOCINE.name}: CC BY-NC-SA 4.0") for line in said)
    assert any(line.startswith("checking models_t5") for line in said)
    assert said[-3] == "model          model"
    assert re.fullmatch(r"size           \S+ MB", said[-2])
    assert re.fullmatch(r"took           \d+:\d\d", said[-1])
    assert all(line.isprintable() for line in said)


def test_bytes_count_towards_all_files(server, tmp_path):
    """What came of a later file before counts from the start; what is there already does not count at all."""
    (tmp_path / "Wan2.1_VAE.pth").write_bytes(b"vae")
    before = order_of(server, tmp_path)
    partial(before.items[1].file, before.items[1].target).write_bytes(b"lo")
    server.file_faults = [Fault(after=2**21)]
    seen, events = [], fetch(order_of(server, tmp_path), Hub(server.endpoint), no_wait)
    with suppress(CheckpointError):  # these bytes are no weights
        for event in events:
            seen.append(event)  # noqa: PERF402 - what came before the error is kept
    total = len(BYTES) + len(b"low") + len(b"encoder") + len(b"{}")
    begun = [event for event in seen if isinstance(event, PhaseStarted) and event.phase == "fetch"]
    assert [(event.subject, event.done, event.total) for event in begun] == [
        (HIGH, 2, total),
        (LOW, len(BYTES) + 2, total),
        ("models_t5_umt5-xxl-enc-bf16.pth", len(BYTES) + 3, total),
        ("tokenizer.json", len(BYTES) + 10, total),
    ]
    checked = seen.index(PhaseStarted("check", 2, 0, LOW))
    assert seen[checked + 1] == PhaseAdvanced(2)  # of the file alone
    done = [event.done for event in seen if isinstance(event, PhaseAdvanced) and event.detail == "in all"]
    assert done == sorted(done)
    assert done[-1] == total


# --- faults on the way -----------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
def test_a_lost_connection_is_taken_up_where_it_was(server, tmp_path, reset):
    server.file_faults = [Fault(after=2**21 + 5, reset=reset)]
    events = bring(server, tmp_path)
    assert (tmp_path / HIGH).read_bytes() == BYTES
    first, second = server.ranges(HIGH)
    assert (first, second) == (0, 2**21) or (reset and second <= 2**21)  # a reset loses what was under way
    assert [event for event in events if isinstance(event, Note)]
    assert list(tmp_path.glob(".*")) == []


@settings(max_examples=25, deadline=None)
@given(drops=st.lists(st.integers(16, 4000), max_size=8), size=st.integers(1001, 4000))
def test_wherever_it_breaks_the_file_is_whole(tmp_path_factory, drops, size):
    folder, content = tmp_path_factory.mktemp("model"), BYTES[:size]
    with hub_server(repositories(content)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub_module, "PIECE", 16)
        server.file_faults = [Fault(after=drop) for drop in drops]
        bring(server, folder)
        starts = server.ranges(HIGH)
    assert (folder / HIGH).read_bytes() == content
    assert starts == sorted(starts)  # never back


def test_a_server_that_gives_no_parts_gives_the_whole_again(server, tmp_path):
    server.knows_parts = False
    server.file_faults = [Fault(after=2**21)]
    bring(server, tmp_path)
    assert (tmp_path / HIGH).read_bytes() == BYTES


def test_parts_of_two_versions_are_never_joined(server, tmp_path):
    server.file_faults = [Fault(after=2**21)] + [Fault(503)] * len(WAITS)
    with pytest.raises(FetchError):
        bring(server, tmp_path)
    newer = BYTES[::-1]
    server.repositories[HOLOCINE.name][f"HoloCine_dit/sparse/{HIGH}"] = newer
    bring(server, tmp_path)
    assert (tmp_path / HIGH).read_bytes() == newer
    assert server.ranges(HIGH)[-1] == 0


def test_a_hub_in_trouble_is_asked_five_times_again_and_what_came_is_kept(server, tmp_path):
    waited = []
    server.file_faults = [Fault(after=2**21), *[Fault(503)] * 5]
    item = order_of(server, tmp_path).items[0]
    with pytest.raises(
        FetchError, match=r"HTTP 503.*the downloaded part is kept: type the same command to continue"
    ):
        list(download(Hub(server.endpoint), item.file, item.target, waited.append))
    assert waited == [*WAITS]
    assert order_of(server, tmp_path).items[0].came == 2**21
    assert not (tmp_path / HIGH).exists()
    begun = [event for event in bring(server, tmp_path) if isinstance(event, PhaseStarted)]
    assert begun == [PhaseStarted("check", 2**21, 0, HIGH), PhaseStarted("fetch", len(BYTES), 2**21, HIGH)]
    assert (tmp_path / HIGH).read_bytes() == BYTES


def test_another_size_than_listed_is_told_and_nothing_is_kept(server, tmp_path):
    server.listed_as = {f"HoloCine_dit/sparse/{HIGH}": BYTES + b"more"}
    with pytest.raises(FetchError, match=f"the hub sends {len(BYTES)} bytes, but lists {len(BYTES) + 4}"):
        bring(server, tmp_path)
    assert not (tmp_path / HIGH).exists()


def test_another_content_than_listed_is_removed(server, tmp_path):
    server.listed_as = {f"HoloCine_dit/sparse/{HIGH}": BYTES[::-1]}
    with pytest.raises(FetchError, match="its digest differs"):
        bring(server, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_part_longer_than_its_file_is_not_used(server, tmp_path):
    item = order_of(server, tmp_path).items[0]
    partial(item.file, item.target).write_bytes(BYTES + b"more")
    bring(server, tmp_path)
    assert (tmp_path / HIGH).read_bytes() == BYTES


def test_a_part_that_is_whole_is_not_asked_for_again(server, tmp_path):
    item = order_of(server, tmp_path).items[0]
    partial(item.file, item.target).write_bytes(BYTES)
    bring(server, tmp_path)
    assert server.ranges(HIGH) == []
    assert (tmp_path / HIGH).read_bytes() == BYTES


REFUSED = {
    (401, ""): r"access denied \(HTTP 401\); log in on that page, accept its terms .* HF_TOKEN",
    (403, "GatedRepo"): r"access denied \(HTTP 403\)",
    (404, "RepoNotFound"): r"not found, or private \(HTTP 404\)",
    (404, "EntryNotFound"): r"not found, or private \(HTTP 404\)",
    (400, ""): r"the hub refuses \(HTTP 400\)",
    (429, ""): r"is busy or has trouble \(HTTP 429\); try again later",
}


@pytest.mark.parametrize(("status", "code"), REFUSED)
def test_a_refusal_says_what_to_do(server, tmp_path, status, code):
    server.list_faults = [Fault(status, code)]
    with pytest.raises(FetchError, match=REFUSED[status, code]) as caught:
        order_of(server, tmp_path)
    assert str(caught.value).startswith(f"{server.endpoint}/{HOLOCINE.name}: ")
    server.file_faults = [Fault(status, code)] * 6
    with pytest.raises(FetchError, match=REFUSED[status, code].partition(";")[0]):
        bring(server, tmp_path)


def test_the_token_goes_to_the_hub_and_not_to_where_files_are_kept(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    bring(server, tmp_path)
    assert server.asked == [
        (HOLOCINE.name, 0, "Bearer hf_mine"),
        (WAN.name, 0, "Bearer hf_mine"),
        (f"HoloCine_dit/sparse/{HIGH}", 0, None),
    ]


def test_no_network_is_told(tmp_path):
    with hub_server({}) as server:
        gone = server.endpoint
    with pytest.raises(PassingError, match=r"cannot be reached \(.*\); check the network"):
        plan_order("sparse", tmp_path, Hub(gone))


def test_offline_is_told(server, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FetchError, match="HF_HUB_OFFLINE is set, so nothing is fetched; unset it"):
        order_of(server, tmp_path)


def test_an_endpoint_that_is_no_address_or_no_hub_is_told(server, tmp_path):
    with pytest.raises(FetchError, match="HF_ENDPOINT 'hub': write it like https://"):
        Hub("hub")
    server.list_faults = [Fault(200)]
    with pytest.raises(FetchError, match="does not answer like a hub; check HF_ENDPOINT"):
        order_of(server, tmp_path)


# --- what is there, and room ----------------------------------------------------------------------


def test_only_what_is_wanted_is_listed_and_sizes_come_first(server, tmp_path):
    order = order_of(server, tmp_path / "new")
    lines = list(order_lines(order))
    assert [line.split()[2] for line in lines[:5]] == [
        *(f"{name}:" for name in (HIGH, LOW, "models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth", "tokenizer.json"))
    ]
    assert lines[0] == f"   3.15 MB  {HIGH}: from {HOLOCINE.name}"
    assert order.room == sum(item.file.nbytes for item in order.items)
    assert not (tmp_path / "new").exists()


def test_a_file_that_was_renamed_in_its_repository_is_named(server, tmp_path):
    server.repositories[WAN.name]["vae/Wan2.1_VAE_new.pth"] = server.repositories[WAN.name].pop("Wan2.1_VAE.pth")
    with pytest.raises(FetchError, match=f"{WAN.name}: no longer contains Wan2.1_VAE.pth"):
        order_of(server, tmp_path)


def test_what_every_model_has_is_taken_from_another_ones_folder_if_it_is_the_same(server, tmp_path):
    other = tmp_path / "holocine"
    other.mkdir()
    (other / "Wan2.1_VAE.pth").write_bytes(b"vae")
    (other / "models_t5_umt5-xxl-enc-bf16.pth").write_bytes(b"encode?")
    (other / HIGH).write_bytes(BYTES)
    items = {item.file.name: item for item in order_of(server, tmp_path / "another").items}
    assert items["Wan2.1_VAE.pth"].means == "link"
    assert items["Wan2.1_VAE.pth"].cached == other / "Wan2.1_VAE.pth"
    assert items["models_t5_umt5-xxl-enc-bf16.pth"].means == "fetch"
    assert items[HIGH].means == "fetch"


def test_files_in_any_subfolder_are_taken_as_they_are(server, tmp_path):
    home = tmp_path / "model"
    (home / "HoloCine_dit" / "sparse").mkdir(parents=True)
    (home / "HoloCine_dit" / "sparse" / HIGH).write_bytes(BYTES)
    order = order_of(server, home)
    assert [item.means for item in order.items] == ["there", *["fetch"] * 4]
    with pytest.raises(Exception, match="safetensors"):  # the others are no weights
        list(fetch(order, Hub(server.endpoint)))
    assert server.ranges(HIGH) == []


def test_a_file_of_another_size_is_not_written_over(server, tmp_path):
    (tmp_path / HIGH).write_bytes(b"mine")
    with pytest.raises(
        OutputError, match=f"{HIGH}: has 4 bytes, the published file {len(BYTES)}; remove or rename"
    ):
        order_of(server, tmp_path)


def test_a_converted_model_is_left_alone(server, tmp_path):
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(OutputError, match="is a converted model; give --into another folder"):
        order_of(server, tmp_path)


def cached(server, folder):
    """The high-noise expert in the hub's cache, by the hub's own means."""
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(
        HOLOCINE.name, f"HoloCine_dit/sparse/{HIGH}", cache_dir=folder, endpoint=server.endpoint, revision=COMMIT
    )
    server.asked.clear()
    return Path(path).resolve()


@pytest.mark.parametrize("links", [True, False])
def test_what_the_hubs_cache_holds_is_not_fetched(server, tmp_path, monkeypatch, links):
    blob = cached(server, tmp_path / "hub")
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EXDEV, "other disk")))
    order = order_of(server, tmp_path / "model")
    assert order.items[0].means == "link"
    assert order.room == sum(item.file.nbytes for item in order.items[1:])
    with pytest.raises(Exception, match="safetensors"):
        list(fetch(order, Hub(server.endpoint)))
    target = tmp_path / "model" / HIGH
    assert target.read_bytes() == BYTES
    assert os.path.samefile(target, blob) == links
    assert server.ranges(HIGH) == []


def test_too_little_disk_is_refused_before_anything_comes(server, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(
        OutputError, match=r"needs 3.15 MB of disk, 1.00 kB are free; free some space, or give --into"
    ):
        check_room(order_of(server, tmp_path))


def test_a_disk_that_fills_up_keeps_what_came(server, tmp_path, monkeypatch):
    add = TransferPart.add

    def full(part, piece):
        if part.size >= 2**21:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(part, piece)

    monkeypatch.setattr(TransferPart, "add", full)
    with pytest.raises(OutputError, match="the disk is full; free some space and type the same command again"):
        bring(server, tmp_path)
    monkeypatch.undo()
    bring(server, tmp_path)
    assert server.ranges(HIGH) == [0, 2**21]
    assert (tmp_path / HIGH).read_bytes() == BYTES


def test_two_fetches_do_not_write_into_one_folder(server, tmp_path):
    with _alone(tmp_path), pytest.raises(OutputError, match="another fetch is writing there"):
        list(fetch(order_of(server, tmp_path), Hub(server.endpoint)))
    assert not (tmp_path / HIGH).exists()


# --- the licence -----------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A person who types."""

    def isatty(self):
        return True


@pytest.fixture
def hub_here(server, monkeypatch):
    """The command's hub is the test's."""
    make_default(server, monkeypatch)
    return server


@pytest.mark.parametrize(("typed", "telling"), [(None, "add --accept-licence"), ("n\n", "were not accepted")])
def test_without_the_licences_accepted_nothing_is_fetched(run, hub_here, monkeypatch, tmp_path, typed, telling):
    monkeypatch.setattr(sys, "stdin", io.StringIO() if typed is None else Terminal(typed))
    outcome = run("fetch", "sparse", "--into", "model")
    assert outcome.code == 2
    assert telling in outcome.err
    assert [start for path, start, _ in hub_here.asked if path not in hub_here.repositories] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("hub_here")
def test_a_yes_fetches(run, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    outcome = run("fetch", "sparse", "--into", "model")
    assert (tmp_path / "model" / HIGH).read_bytes() == BYTES
    assert outcome.code == 2  # these bytes are no safetensors, and that is found
    assert f"model/{LOW}" in outcome.err or f"model/{HIGH}" in outcome.err


@pytest.mark.usefixtures("hub_here")
def test_ctrl_c_tells_that_what_came_is_kept(run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("holo_lite.fetch.run.fetch", interrupted)
    outcome = run("fetch", "sparse", "--into", "model", "--accept-licence")
    assert outcome.code == 130
    assert outcome.err.splitlines()[-1] == (
        "interrupted; the downloaded part is kept; type the same command to continue"
    )


def test_another_variant_is_a_mistake(run):
    outcome = run("fetch", "dense")
    assert outcome.err == "error: unknown variant 'dense'; choose sparse, full or wan22\n"
    assert outcome.code == 2
